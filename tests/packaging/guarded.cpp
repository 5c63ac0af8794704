// The C++ header against a careless app: exceptions out of observers, models that were moved.  Compiled with
// -fno-exceptions it shows that the header does without them.
#include <tiny.hpp>

#include <cmath>

#define CHECK(condition)                                            \
    do {                                                            \
        if (!(condition)) {                                         \
            std::fprintf(stderr, "%d: %s\n", __LINE__, #condition); \
            std::exit(1);                                           \
        }                                                           \
    } while (0)

static std::array<float, tiny::input::x::size> x{};
static std::array<float, tiny::output::y::size> y{};
static std::array<float, tiny::output::copy::size> copy{};

static void run(tiny::Model &model, float value) {
    x.fill(value);
    tiny::Inputs inputs;
    inputs.x = x;
    tiny::Outputs outputs{y, copy};
    model.run(inputs, outputs);
    CHECK(copy[999] == value && std::fabs(y[999] - (std::tanh(value * 0.5f) + 1.0f)) < 1e-5f);
}

static int seen;
static void count(void *, std::uint32_t, const void *) { ++seen; }

#if defined(__cpp_exceptions)
struct Mine {
    int step;
};

static void throw_at(void *context, std::uint32_t step, const void *) {
    ++seen;
    if (static_cast<int>(step) == *static_cast<int *>(context)) {
        throw Mine{static_cast<int>(step)};
    }
}

template <typename Action>
static std::string error_of(Action action, tiny_status status) {
    try {
        action();
    } catch (const tiny::Error &error) {
        CHECK(error.status() == status);
        return error.what();
    }
    return "no error";
}

static void throwing_observers(std::int32_t threads) {
    tiny::Model model({threads});
    for (int step = 0; step < 4; ++step) {
        seen = 0;
        model.observe(throw_at, &step);
        int caught = -1;
        try {
            run(model, 1.0f);
        } catch (const Mine &mine) {
            caught = mine.step;
        }
        CHECK(caught == step && seen == step + 1);  // it is asked no further in that run
        CHECK(copy[999] == 1.0f);                   // which went on to its end
        model.observe(nullptr);
        run(model, 2.0f);
    }
    // The model moves with what watches it, and what was thrown is thrown once.
    int step = 2;
    model.observe(throw_at, &step);
    tiny::Model moved(std::move(model));
    for (int turn = 0; turn < 2; ++turn) {
        bool caught = false;
        try {
            run(moved, 3.0f);
        } catch (const Mine &) {
            caught = true;
        }
        CHECK(caught);
        step = 7;
        run(moved, 3.0f);
        step = 2;
    }
    // A kernel that fails after the observer has thrown: the observer's comes first.
    step = 0;
    CHECK(error_of([&] { run(model, 1.0f); }, tiny_ERROR_ARGUMENT)
          == "tiny: bad argument: the model was moved from");
    CHECK(error_of([&] { model.observe(count); }, tiny_ERROR_ARGUMENT)
          == "tiny: bad argument: the model was moved from");
}

static void user_code_that_throws() {
    try {
        tiny::Model model;
        run(model, 1.0f);
        throw Mine{3};
    } catch (const Mine &) {
    }
    std::vector<tiny::Model> models;
    try {
        for (int i = 0; i < 10; ++i) {
            models.emplace_back(tiny::Options{i < 7 ? 1 : 4000});
        }
    } catch (const tiny::Error &error) {
        CHECK(error.status() == tiny_ERROR_ARGUMENT);
    }
    CHECK(models.size() == 7);
    run(models[6], 1.0f);
}

// Asked for from inside its own run.
static void observe_again(void *context, std::uint32_t, const void *) {
    static_cast<tiny::Model *>(context)->observe(nullptr);
}

static void reentrant() {
    tiny::Model model;
    model.observe(observe_again, &model);
    CHECK(error_of([&] { run(model, 1.0f); }, tiny_ERROR_BUSY) == "tiny: the handle is in use");
    model.observe(nullptr);
    run(model, 1.0f);
}
#endif

static void moves() {
    tiny::Model first({2}), second({3});
    first.observe(count);
    tiny::Model &same = first;
    first = std::move(same);  // to itself: nothing happens
    CHECK(first.threads() == 2);
    seen = 0;
    run(first, 1.0f);
    CHECK(seen == 4);
    std::swap(first, second);
    CHECK(first.threads() == 3 && second.threads() == 2);
    run(first, 1.0f);
    CHECK(seen == 4);
    run(second, 1.0f);
    CHECK(seen == 8);
    tiny::Model third(std::move(second));
    CHECK(second.threads() == 0 && second.handle() == nullptr && third.threads() == 2);
    second = std::move(third);
    run(second, 1.0f);
    CHECK(seen == 12);
    static_assert(std::is_nothrow_move_constructible_v<tiny::Model> && std::is_nothrow_move_assignable_v<tiny::Model>);
    static_assert(std::is_nothrow_destructible_v<tiny::Model>);
}

int main(int argc, char **) {
    moves();
#if defined(__cpp_exceptions)
    throwing_observers(1);
    throwing_observers(3);
    user_code_that_throws();
    reentrant();
#endif
    if (argc > 1) {
        tiny::Model model({-5});  // throws; without exceptions it says so and aborts
    }
    return 0;
}
