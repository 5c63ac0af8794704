// Three networks in one app: one runtime, one arena; in turn and from two threads that share a lock.
#include <first.hpp>
#include <second.hpp>
#include <third.hpp>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <mutex>
#include <thread>

namespace {

template <typename Model, typename Inputs, typename Outputs>
bool right(Model &model, float value, float scale) {
    std::vector<float> x(1000, value), y(1000), copy(1000);
    Inputs inputs;
    inputs.x = x;
    Outputs outputs;
    outputs.y = y;
    outputs.copy = copy;
    model.run(inputs, outputs);
    // w runs from -scale to scale
    const auto expected = [&](int i) { return std::tanh(value * (-scale + 2 * scale * float(i) / 999)) + 1; };
    return copy == x && std::fabs(y[0] - expected(0)) < 1e-5F && std::fabs(y[999] - expected(999)) < 1e-5F;
}

bool first_right(first::Model &model, float value) {
    return right<first::Model, first::Inputs, first::Outputs>(model, value, 0.5F);
}

bool second_right(second::Model &model, float value) {
    return right<second::Model, second::Inputs, second::Outputs>(model, value, 2.0F);
}

bool third_right(third::Model &model, float value) {
    return right<third::Model, third::Inputs, third::Outputs>(model, value, 1.0F);
}

}  // namespace

int main() {
    first::Options one;
    second::Options two;
    one.threads = two.threads = 2;
    first::Arena arena(std::max(first::memory_bytes(one), second::memory_bytes(two)));
    one.arena = two.arena = arena.get();
    first::Model a(one);
    second::Model b(two);
    third::Model alone;  // memory of its own, the same pool
    for (int turn = 1; turn < 20; ++turn) {
        const float value = 0.1F * float(turn);
        if (!first_right(a, value) || !second_right(b, value) || !third_right(alone, value)) {
            std::puts("wrong in turn");
            return 1;
        }
    }
    std::mutex turns;
    bool good[3] = {true, true, true};
    std::thread threads[] = {
        std::thread([&] {
            for (int i = 0; i < 200; ++i) {
                const std::lock_guard<std::mutex> mine(turns);
                good[0] = first_right(a, 0.5F) && good[0];
            }
        }),
        std::thread([&] {
            for (int i = 0; i < 200; ++i) {
                const std::lock_guard<std::mutex> mine(turns);
                good[1] = second_right(b, 0.25F) && good[1];
            }
        }),
        std::thread([&] {
            for (int i = 0; i < 200; ++i) {
                good[2] = third_right(alone, 0.75F) && good[2];
            }
        }),
    };
    for (std::thread &thread : threads) {
        thread.join();
    }
    if (!good[0] || !good[1] || !good[2]) {
        std::puts("wrong from threads");
        return 1;
    }
    try {
        first::Options small = one;
        first::Arena little(64);
        small.arena = little.get();
        first::Model refused(small);
        return 1;
    } catch (const first::Error &error) {
        return error.status() == first_ERROR_ARGUMENT ? 0 : 1;
    }
}
