// From the text probability of each pixel to rotated boxes around lines of text.
#pragma once

#include <vector>

#include "image.hpp"

namespace ocr {

struct BoxRules {
    double pixel_threshold = 0.3;  // a pixel above it is text
    double box_threshold = 0.5;    // a box whose pixels' mean is below it is dropped
    double unclip_ratio = 1.6;     // the network marks the core of a line: grow by area * ratio / perimeter
    int smallest_side = 3;         // pixels of the map
};

// `probability` is height x width.  Boxes come in reading order, in pixels of the original image:
// `scale` is map pixels per image pixel.
std::vector<Box> find_text_boxes(const float* probability, int height, int width, double scale,
                                 const BoxRules& rules = {});

}  // namespace ocr
