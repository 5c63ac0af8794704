// The OCR example's parts behind C functions, so that tests can feed them arrays.
#include <cstring>
#include <exception>
#include <string>

#include "ctc.hpp"
#include "image.hpp"
#include "text_boxes.hpp"

namespace {
thread_local std::string error;

ocr::Image image_of(const unsigned char* rgb, int height, int width) {
    ocr::Image image;
    image.width = width;
    image.height = height;
    image.rgb.assign(rgb, rgb + static_cast<std::size_t>(height) * static_cast<std::size_t>(width) * 3);
    return image;
}
}  // namespace

extern "C" {

const char* last_error() { return error.c_str(); }

// `rgb` has room for `capacity` bytes; returns 0, or -1 with last_error set.
int read_image(const char* path, unsigned char* rgb, int capacity, int* height, int* width) {
    try {
        const ocr::Image image = ocr::read_netpbm(path);
        *height = image.height;
        *width = image.width;
        if (image.rgb.size() > static_cast<std::size_t>(capacity)) return -2;
        std::memcpy(rgb, image.rgb.data(), image.rgb.size());
        return 0;
    } catch (const std::exception& caught) {
        error = caught.what();
        return -1;
    }
}

double letterbox(const unsigned char* rgb, int height, int width, int to_height, int to_width, float* chw) {
    return ocr::letterbox(image_of(rgb, height, width), to_height, to_width, chw);
}

// A box is centre_x, centre_y, axis_x, axis_y, width, height, score.
int cut_line(const unsigned char* rgb, int height, int width, const double* box, int to_height, int to_width,
             float* chw) {
    const ocr::Box cut{box[0], box[1], box[2], box[3], box[4], box[5], box[6]};
    return ocr::cut_line(image_of(rgb, height, width), cut, to_height, to_width, chw);
}

int find_text_boxes(const float* probability, int height, int width, double scale, double unclip, double* boxes,
                    int capacity) {
    ocr::BoxRules rules;
    rules.unclip_ratio = unclip;
    const auto found = ocr::find_text_boxes(probability, height, width, scale, rules);
    int count = 0;
    for (const ocr::Box& box : found) {
        if (count == capacity) break;
        const double values[7] = {box.centre_x, box.centre_y, box.axis_x, box.axis_y, box.width, box.height, box.score};
        std::memcpy(boxes + 7 * count++, values, sizeof values);
    }
    return static_cast<int>(found.size());
}

// The text's bytes go to `text`, its confidence to `confidence`; returns 0, or -1 with last_error set.
int decode(const char* dictionary_path, const float* probability, int steps, int classes, char* text, int capacity,
           double* confidence) {
    try {
        const ocr::Line line = ocr::decode(probability, steps, ocr::read_dictionary(dictionary_path, classes));
        *confidence = line.confidence;
        if (line.text.size() >= static_cast<std::size_t>(capacity)) return -2;
        std::memcpy(text, line.text.c_str(), line.text.size() + 1);
        return 0;
    } catch (const std::exception& caught) {
        error = caught.what();
        return -1;
    }
}

}  // extern "C"
