// An app of the package `tiny` for GPUs in C++ (tests/packaging/cuda_plans.py).
#include <tiny.hpp>

#include <cmath>
#include <cstdio>
#include <vector>

namespace {

int wrong(const char *what) {
    std::printf("wrong: %s\n", what);
    return 1;
}

float weight(std::size_t i) { return -0.5f + static_cast<float>(i) / 999.0f; }

int check(const std::vector<float> &x, const std::vector<float> &y, const std::vector<float> &copy) {
    for (std::size_t i = 0; i < x.size(); ++i) {
        if (std::fabs(y[i] - (std::tanh(x[i] * weight(i)) + 1.0f)) > 1e-5f || copy[i] != x[i]) {
            return wrong("numbers");
        }
    }
    return 0;
}

std::vector<float> numbers(float scale) {
    std::vector<float> x(tiny::input::x::size);
    for (std::size_t i = 0; i < x.size(); ++i) {
        x[i] = scale * std::sin(static_cast<float>(i));
    }
    return x;
}

}  // namespace

int main() try {
    tiny::Options options;
    options.threads = 1;
    options.device = 0;
    tiny::Model model(options);
    const std::vector<float> first = numbers(1.0f), second = numbers(-3.0f);
    std::vector<float> y(tiny::output::y::size), copy(tiny::output::copy::size);

    tiny::Inputs inputs;
    inputs.x = first;
    tiny::Outputs outputs;
    outputs.y = y;
    outputs.copy = copy;
    model.run(inputs, outputs);
    if (check(first, y, copy) != 0) {
        return 1;
    }

    tiny::DeviceBuffer<float> x1(model, first), x2(model, second);
    tiny::DeviceBuffer<float> y1(model, y.size()), y2(model, y.size()), c1(model, y.size()), c2(model, y.size());
    tiny::Stream stream(model), another(model);
    tiny::DeviceInputs on_device;
    tiny::DeviceOutputs to_device;
    on_device.x = x1;
    to_device.y = y1;
    to_device.copy = c1;
    model.run_async(on_device, to_device, stream.get());
    on_device.x = x2;
    to_device.y = y2;
    to_device.copy = c2;
    another = std::move(stream);
    model.run_async(on_device, to_device);
    model.synchronize();
    another.synchronize();
    y1.download(y);
    c1.download(copy);
    if (check(first, y, copy) != 0) {
        return 1;
    }
    tiny::DeviceBuffer<float> moved(std::move(y2));
    moved.download(y);
    c2.download(copy);
    if (check(second, y, copy) != 0) {
        return 1;
    }
    tiny::Model other(std::move(model));  // buffers stay usable
    moved.upload(first);
    try {
        moved.download(tiny::Span<float>(y.data(), 3));
        return wrong("a copy of another size");
    } catch (const tiny::Error &error) {
        std::printf("%s\n", error.what());
    }
    on_device.x = tiny::DeviceSpan<const float>(first.data(), first.size());
    to_device.y = moved;
    try {
        other.run_async(on_device, to_device);
        return wrong("a pointer to the host's memory");
    } catch (const tiny::Error &error) {
        std::printf("%s\n", error.what());
    }
    model = std::move(other);  // which buffers must not outlive
    return 0;
} catch (const tiny::Error &error) {
    std::printf("%d %s\n", static_cast<int>(error.status()), error.what());
    return 3;
}
