#include "image.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <fstream>
#include <stdexcept>

namespace ocr {
namespace {

// The next number of a Netpbm header; white space and #-comments come before it.
int header_number(std::istream& in, const std::string& path) {
    for (;;) {
        in >> std::ws;
        if (in.peek() != '#') break;
        std::string comment;
        std::getline(in, comment);
    }
    int value = 0;
    if (!(in >> value) || value <= 0) throw std::runtime_error(path + ": broken Netpbm header");
    return value;
}

// The image at (x, y), pixel centres at whole numbers, bilinear, edges repeated.
std::array<double, 3> sample(const Image& image, double x, double y) {
    x = std::clamp(x, 0.0, image.width - 1.0);
    y = std::clamp(y, 0.0, image.height - 1.0);
    const int left = static_cast<int>(x), top = static_cast<int>(y);
    const int right = std::min(left + 1, image.width - 1), bottom = std::min(top + 1, image.height - 1);
    const double fx = x - left, fy = y - top;
    const auto at = [&](int column, int row, std::size_t channel) -> double {
        const auto pixel = static_cast<std::size_t>(row) * static_cast<std::size_t>(image.width) +
                           static_cast<std::size_t>(column);
        return image.rgb[pixel * 3 + channel];
    };
    std::array<double, 3> value{};
    for (std::size_t channel = 0; channel < 3; ++channel) {
        value[channel] = (at(left, top, channel) * (1 - fx) + at(right, top, channel) * fx) * (1 - fy) +
                         (at(left, bottom, channel) * (1 - fx) + at(right, bottom, channel) * fx) * fy;
    }
    return value;
}

// Fills the left columns x rows of a height x width input.  `box` is what those pixels show.
void resample(const Image& image, const Box& box, int columns, int rows, int height, int width, float* chw) {
    const std::size_t plane = static_cast<std::size_t>(height) * static_cast<std::size_t>(width);
    std::fill(chw, chw + 3 * plane, 0.0F);
    const double step_x = box.width / columns, step_y = box.height / rows;
    // Where the image shrinks, a pixel is the mean of a grid of samples: one alone would alias.
    const int grid_x = std::max(1, static_cast<int>(std::ceil(step_x - 1e-6)));
    const int grid_y = std::max(1, static_cast<int>(std::ceil(step_y - 1e-6)));
    for (int row = 0; row < rows; ++row) {
        for (int column = 0; column < columns; ++column) {
            std::array<double, 3> sum{};
            for (int i = 0; i < grid_y; ++i) {
                for (int j = 0; j < grid_x; ++j) {
                    const double along = (column + (j + 0.5) / grid_x) * step_x - box.width / 2;
                    const double across = (row + (i + 0.5) / grid_y) * step_y - box.height / 2;
                    const auto value =
                        sample(image, box.centre_x + box.axis_x * along - box.axis_y * across - 0.5,
                               box.centre_y + box.axis_y * along + box.axis_x * across - 0.5);
                    for (std::size_t c = 0; c < 3; ++c) sum[c] += value[c];
                }
            }
            const std::size_t at = static_cast<std::size_t>(row) * static_cast<std::size_t>(width) +
                                   static_cast<std::size_t>(column);
            for (std::size_t c = 0; c < 3; ++c) {
                const double mean = sum[c] / (grid_x * grid_y);
                chw[(2 - c) * plane + at] = static_cast<float>(mean / 255.0 * 2.0 - 1.0);
            }
        }
    }
}

}  // namespace

Image read_netpbm(const std::string& path) {
    std::ifstream in(path, std::ios::binary);
    if (!in) throw std::runtime_error(path + ": cannot be opened");
    std::string magic(2, '\0');
    in.read(magic.data(), 2);
    if (!in || (magic != "P5" && magic != "P6")) throw std::runtime_error(path + ": neither PGM (P5) nor PPM (P6)");
    Image image;
    image.width = header_number(in, path);
    image.height = header_number(in, path);
    if (image.width > 1 << 15 || image.height > 1 << 15) throw std::runtime_error(path + ": too large");
    if (header_number(in, path) != 255) throw std::runtime_error(path + ": not 8 bits a channel");
    in.get();
    const std::size_t pixels = static_cast<std::size_t>(image.width) * static_cast<std::size_t>(image.height);
    const std::size_t channels = magic == "P5" ? 1 : 3;
    std::vector<char> raw(pixels * channels);
    in.read(raw.data(), static_cast<std::streamsize>(raw.size()));
    if (static_cast<std::size_t>(in.gcount()) != raw.size()) throw std::runtime_error(path + ": cut off");
    image.rgb.resize(pixels * 3);
    for (std::size_t i = 0; i < image.rgb.size(); ++i) {
        image.rgb[i] = static_cast<std::uint8_t>(raw[channels == 1 ? i / 3 : i]);
    }
    return image;
}

double letterbox(const Image& image, int height, int width, float* chw) {
    const double scale = std::min(static_cast<double>(width) / image.width, static_cast<double>(height) / image.height);
    const int columns = std::clamp(static_cast<int>(std::lround(image.width * scale)), 1, width);
    const int rows = std::clamp(static_cast<int>(std::lround(image.height * scale)), 1, height);
    Box shown;
    shown.width = columns / scale;
    shown.height = rows / scale;
    shown.centre_x = shown.width / 2;
    shown.centre_y = shown.height / 2;
    resample(image, shown, columns, rows, height, width, chw);
    return scale;
}

int cut_line(const Image& image, const Box& box, int height, int width, float* chw) {
    const double wanted = std::ceil(height * box.width / box.height);
    const int columns = static_cast<int>(std::clamp(wanted, 1.0, static_cast<double>(width)));
    resample(image, box, columns, height, height, width, chw);
    return columns;
}

}  // namespace ocr
