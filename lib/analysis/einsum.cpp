#include "lib/analysis/einsum.h"

#include <algorithm>
#include <cctype>

namespace tcompress::analysis {

namespace {

bool distinctLetters(const std::string& term) {
    return std::all_of(term.begin(), term.end(), [&](char c) {
        return std::isalpha(static_cast<unsigned char>(c)) && std::count(term.begin(), term.end(), c) == 1;
    });
}

}  // namespace

std::optional<EinsumEquation> parseEinsum(std::string_view equation) {
    std::string text;
    std::copy_if(equation.begin(), equation.end(), std::back_inserter(text), [](char c) { return c != ' '; });
    EinsumEquation parsed;
    const std::size_t arrow = text.find("->");
    const std::string left = text.substr(0, arrow);
    for (std::size_t begin = 0; begin <= left.size();) {
        const std::size_t end = std::min(left.find(',', begin), left.size());
        parsed.inputs.push_back(left.substr(begin, end - begin));
        begin = end + 1;
    }
    if (arrow != std::string::npos) {
        parsed.output = text.substr(arrow + 2);
    } else {
        // Without an arrow: the letters that occur once, in alphabetical order.
        for (char c : left) {
            if (c != ',' && std::count(left.begin(), left.end(), c) == 1) parsed.output += c;
        }
        std::sort(parsed.output.begin(), parsed.output.end());
    }
    if (!distinctLetters(parsed.output)) return {};
    if (!std::all_of(parsed.inputs.begin(), parsed.inputs.end(), distinctLetters)) return {};
    return parsed;
}

}  // namespace tcompress::analysis
