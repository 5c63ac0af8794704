// Reads the text in an image with two networks that deploycc compiled: one finds the lines, one reads them.
//
//     ocr IMAGE DICTIONARY [--threads N] [--tensors DIR] [--serve]
//
// IMAGE is a binary PGM or PPM, DICTIONARY has one character a line.  Prints each line of text with its
// confidence.  --tensors writes what went into and came out of the networks as raw float32 files.
// --serve then answers the words `det` and `rec` on standard input by running that network again (on
// every line for `rec`) and printing the milliseconds, until the input ends.
#include <chrono>
#include <cstdio>
#include <exception>
#include <fstream>
#include <iostream>
#include <stdexcept>
#include <string>
#include <vector>

#include "ctc.hpp"
#include "image.hpp"
#include "ppocr_det.hpp"
#include "ppocr_rec.hpp"
#include "text_boxes.hpp"

namespace {

struct Arguments {
    std::string image, dictionary, tensors;
    int threads = 1;
    bool serve = false;
};

Arguments parse(const std::vector<std::string>& words) {
    Arguments arguments;
    std::vector<std::string> files;
    for (std::size_t i = 0; i < words.size(); ++i) {
        const bool has_value = i + 1 < words.size();
        if (words[i] == "--serve") {
            arguments.serve = true;
        } else if (words[i] == "--threads" && has_value) {
            arguments.threads = std::stoi(words[++i]);
        } else if (words[i] == "--tensors" && has_value) {
            arguments.tensors = words[++i];
        } else if (words[i].rfind("--", 0) == 0) {
            throw std::invalid_argument(words[i] + ": unknown, or its value is missing");
        } else {
            files.push_back(words[i]);
        }
    }
    if (files.size() != 2) throw std::invalid_argument("usage: ocr IMAGE DICTIONARY [--threads N] [--tensors DIR] [--serve]");
    arguments.image = files[0];
    arguments.dictionary = files[1];
    return arguments;
}

// One call of a network: its buffers, kept so that it can be run again.
struct Job {
    std::vector<float> input, output;
};

void save(const std::string& path, const std::vector<float>& values) {
    std::ofstream out(path, std::ios::binary);
    out.write(reinterpret_cast<const char*>(values.data()),
              static_cast<std::streamsize>(values.size() * sizeof(float)));
    if (!out.flush()) throw std::runtime_error(path + ": cannot be written");
}

class Reader {
public:
    explicit Reader(int threads, const std::string& dictionary)
        : detector_(options<ppocr_det::Options>(threads)), recogniser_(options<ppocr_rec::Options>(threads)),
          dictionary_(ocr::read_dictionary(dictionary, classes)) {}

    // The text lines of `image`, in reading order.
    std::vector<ocr::Line> read(const ocr::Image& image) {
        constexpr int height = static_cast<int>(ppocr_det::input::x::shape[2]);
        constexpr int width = static_cast<int>(ppocr_det::input::x::shape[3]);
        detection.input.resize(ppocr_det::input::x::size);
        detection.output.resize(ppocr_det::output::sigmoid_0_tmp_0::size);
        const double scale = ocr::letterbox(image, height, width, detection.input.data());
        detect();

        std::vector<ocr::Line> lines;
        for (const ocr::Box& box : ocr::find_text_boxes(detection.output.data(), height, width, scale)) {
            Job job{std::vector<float>(ppocr_rec::input::x::size),
                    std::vector<float>(ppocr_rec::output::softmax_11_tmp_0::size)};
            ocr::cut_line(image, box, static_cast<int>(ppocr_rec::input::x::shape[2]),
                          static_cast<int>(ppocr_rec::input::x::shape[3]), job.input.data());
            recognise(job);
            lines.push_back(ocr::decode(job.output.data(), steps, dictionary_));
            recognitions.push_back(std::move(job));
        }
        return lines;
    }

    void detect() {
        ppocr_det::Inputs inputs;
        inputs.x = detection.input;
        ppocr_det::Outputs outputs;
        outputs.sigmoid_0_tmp_0 = detection.output;
        detector_.run(inputs, outputs);
    }

    void recognise(Job& job) {
        ppocr_rec::Inputs inputs;
        inputs.x = job.input;
        ppocr_rec::Outputs outputs;
        outputs.softmax_11_tmp_0 = job.output;
        recogniser_.run(inputs, outputs);
    }

    Job detection;
    std::vector<Job> recognitions;

private:
    template <typename Options>
    static Options options(int threads) {
        Options chosen;
        chosen.threads = threads;
        return chosen;
    }

    static constexpr int steps = static_cast<int>(ppocr_rec::output::softmax_11_tmp_0::shape[1]);
    static constexpr int classes = static_cast<int>(ppocr_rec::output::softmax_11_tmp_0::shape[2]);

    ppocr_det::Model detector_;
    ppocr_rec::Model recogniser_;
    std::vector<std::string> dictionary_;
};

void save_tensors(const std::string& folder, const Reader& reader) {
    save(folder + "/det.input.f32", reader.detection.input);
    save(folder + "/det.output.f32", reader.detection.output);
    for (std::size_t i = 0; i < reader.recognitions.size(); ++i) {
        const std::string stem = folder + "/rec" + std::to_string(i);
        save(stem + ".input.f32", reader.recognitions[i].input);
        save(stem + ".output.f32", reader.recognitions[i].output);
    }
}

void serve(Reader& reader) {
    for (std::string word; std::cin >> word;) {
        const auto start = std::chrono::steady_clock::now();
        if (word == "det") {
            reader.detect();
        } else if (word == "rec") {
            for (Job& job : reader.recognitions) reader.recognise(job);
        } else {
            throw std::invalid_argument(word + ": neither det nor rec");
        }
        const std::chrono::duration<double, std::milli> took = std::chrono::steady_clock::now() - start;
        std::cout << took.count() << std::endl;
    }
}

}  // namespace

int main(int count, char** words) {
    try {
        const Arguments arguments = parse({words + 1, words + count});
        const ocr::Image image = ocr::read_netpbm(arguments.image);
        Reader reader(arguments.threads, arguments.dictionary);
        for (const ocr::Line& line : reader.read(image)) {
            std::printf("%.3f\t%s\n", line.confidence, line.text.c_str());
        }
        std::puts("");  // the end of the text, for whoever reads on in --serve
        std::fflush(stdout);
        if (!arguments.tensors.empty()) save_tensors(arguments.tensors, reader);
        if (arguments.serve) serve(reader);
    } catch (const std::exception& error) {
        std::cerr << "ocr: " << error.what() << '\n';
        return 1;
    }
    return 0;
}
