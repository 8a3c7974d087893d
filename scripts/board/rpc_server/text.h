// SPDX-License-Identifier: Apache-2.0
//
// Strings of this program: short, so none of them needs the heap.

#pragma once

#include <array>
#include <cerrno>
#include <cstdarg>
#include <cstddef>
#include <cstdio>
#include <string_view>

class Text {
  public:
    // The longest path of Linux, with its final zero.
    static constexpr std::size_t CAPACITY = 4096;

    // As printf; what does not fit is cut off, and EMSGSIZE is in errno.
    [[gnu::format(printf, 2, 3)]] bool format(const char *pattern, ...) {
        std::va_list arguments;
        va_start(arguments, pattern);
        const bool fits = format_list(pattern, arguments);
        va_end(arguments);
        return fits;
    }

    [[gnu::format(printf, 2, 0)]] bool format_list(const char *pattern, std::va_list arguments) {
        const int length = std::vsnprintf(chars_.data(), CAPACITY, pattern, arguments);
        if (length >= 0 && resize(static_cast<std::size_t>(length)))
            return true;
        length_ = length < 0 ? 0 : CAPACITY - 1;
        errno = EMSGSIZE;
        return false;
    }

    // Make room for so many characters, which the caller writes to data().
    bool resize(std::size_t length) {
        if (length >= CAPACITY)
            return false;
        length_ = length;
        chars_[length] = 0;
        return true;
    }

    char *data() { return chars_.data(); }
    const char *c_str() const { return chars_.data(); }
    std::string_view view() const { return {chars_.data(), length_}; }

  private:
    std::array<char, CAPACITY> chars_{};
    std::size_t length_ = 0;
};
