// From class probabilities along a line to text: greedy CTC decoding.
#pragma once

#include <string>
#include <vector>

namespace ocr {

struct Line {
    std::string text;       // UTF-8
    double confidence = 0;  // mean probability of the characters kept; 0 for an empty line
};

// Class 0 is CTC's blank, class i the dictionary file's line i, the class after the last line a space.
// Throws std::runtime_error unless the file has `classes` - 2 lines.
std::vector<std::string> read_dictionary(const std::string& path, int classes);

// `probability` is steps x dictionary.size().  Of equal neighbours one is kept, then blanks are dropped.
Line decode(const float* probability, int steps, const std::vector<std::string>& dictionary);

}  // namespace ocr
