// SPDX-License-Identifier: Apache-2.0

#include "tracker.h"

#include <cerrno>
#include <cstdint>

namespace {

// A tracker answers at once, or it is not there.
constexpr double ANSWER_SECONDS = 3.0;
constexpr std::int32_t MAGIC = 0x2f271;

// Of tvm.rpc.base.TrackerCode.
enum Code { SUCCESS = 0, PUT = 3, UPDATE_INFO = 5, GET_PENDING_MATCHKEYS = 7 };

bool fail(int reason) {
    errno = reason;
    return false;
}

} // namespace

bool Tracker::connect(const Address &address) {
    const Deadline deadline = Deadline::in(ANSWER_SECONDS);
    socket_ = connect_to(address, deadline);
    std::int32_t magic = MAGIC;
    if (!socket_ || !send_all(socket_, &magic, sizeof magic, deadline) ||
        !receive_all(socket_, &magic, sizeof magic, deadline))
        return false;
    if (magic != MAGIC)
        return fail(EPROTO);
    // Keys and addresses have no character that JSON would escape: see main.cc.
    Text question;
    return question.format("[%d, {\"key\": \"server:%s\", \"addr\": [%s, %d]}]", UPDATE_INFO, key_,
                           host_.c_str(), port_) &&
           ask_for_success(question);
}

bool Tracker::offer(const char *secret) {
    Text question;
    return question.format("[%d, \"%s\", [%d, \"%s:%s\"], %s]", PUT, key_, port_, key_, secret,
                           host_.c_str()) &&
           ask_for_success(question);
}

bool Tracker::is_pending(const char *secret, bool &pending) {
    Text question;
    if (!question.format("[%d]", GET_PENDING_MATCHKEYS) || !ask(question))
        return false;
    pending = answer_.view().find(secret) != std::string_view::npos;
    return true;
}

bool Tracker::ask(const Text &question) {
    const Deadline deadline = Deadline::in(ANSWER_SECONDS);
    const std::string_view text = question.view();
    auto size = static_cast<std::int32_t>(text.size());
    return send_all(socket_, &size, sizeof size, deadline) &&
           send_all(socket_, text.data(), text.size(), deadline) &&
           receive_all(socket_, &size, sizeof size, deadline) &&
           ((size > 0 && answer_.resize(static_cast<std::size_t>(size))) || fail(EPROTO)) &&
           receive_all(socket_, answer_.data(), answer_.view().size(), deadline);
}

bool Tracker::ask_for_success(const Text &question) {
    static_assert(SUCCESS == 0);
    return ask(question) && (answer_.view() == "0" || fail(EPROTO));
}
