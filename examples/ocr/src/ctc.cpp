#include "ctc.hpp"

#include <algorithm>
#include <cstddef>
#include <fstream>
#include <stdexcept>

namespace ocr {

std::vector<std::string> read_dictionary(const std::string& path, int classes) {
    std::ifstream in(path, std::ios::binary);
    if (!in) throw std::runtime_error(path + ": cannot be opened");
    std::vector<std::string> characters{""};
    for (std::string line; std::getline(in, line);) characters.push_back(line);
    characters.emplace_back(" ");
    if (characters.size() != static_cast<std::size_t>(classes)) {
        throw std::runtime_error(path + ": has " + std::to_string(characters.size() - 2) +
                                 " characters, the network tells " + std::to_string(classes - 2) + " apart");
    }
    return characters;
}

Line decode(const float* probability, int steps, const std::vector<std::string>& dictionary) {
    Line line;
    int kept = 0;
    std::size_t previous = 0;
    for (int step = 0; step < steps; ++step) {
        const float* row = probability + static_cast<std::size_t>(step) * dictionary.size();
        const auto best = static_cast<std::size_t>(std::max_element(row, row + dictionary.size()) - row);
        if (best != 0 && best != previous) {
            line.text += dictionary[best];
            line.confidence += static_cast<double>(row[best]);
            ++kept;
        }
        previous = best;
    }
    if (kept > 0) line.confidence /= kept;
    return line;
}

}  // namespace ocr
