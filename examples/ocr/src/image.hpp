// Images and how they become network inputs: plain C++17, no library.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace ocr {

// Interleaved 8-bit RGB, row by row from the top left.
struct Image {
    int width = 0;
    int height = 0;
    std::vector<std::uint8_t> rgb;
};

// A rectangle in pixels of the original image, x to the right and y down, pixel centres at .5.
// (axis_x, axis_y) is the unit vector along `width`, the reading direction.
struct Box {
    double centre_x = 0, centre_y = 0;
    double axis_x = 1, axis_y = 0;
    double width = 0, height = 0;
    double score = 0;
};

// Reads binary Netpbm: PGM (P5, grey becomes RGB) and PPM (P6), 8 bits a channel.
// Throws std::runtime_error that names the file.
Image read_netpbm(const std::string& path);

// Scales `image` to fit height x width keeping its aspect, into the top left corner, the rest grey.
// `chw` gets 3*height*width floats: blue, green, red planes, each (value / 255 - 0.5) / 0.5.
// Returns the scale: network pixels per image pixel.
double letterbox(const Image& image, int height, int width, float* chw);

// Cuts `box` out, upright, at `height` pixels, keeping its aspect but no wider than `width`;
// columns to its right are grey.  Planes and values as in letterbox.  Returns the columns in use.
int cut_line(const Image& image, const Box& box, int height, int width, float* chw);

}  // namespace ocr
