// SPDX-License-Identifier: Apache-2.0
//
// An RPC server for boards without Python: `tvmc rpc-server` as one program. It is C++17 without
// the C++ library, of which it needs no more than headers, so that it runs wherever TVM's runtime
// does. Read on in server.cc.

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <getopt.h>

#include "server.h"

namespace {

constexpr int EXIT_BAD_INPUT = 2, SIGNALLED = 128, LAST_PORT = 65535;
constexpr std::size_t LONGEST_NAME = 255;

constexpr char USAGE[] =
    "usage: leanconv-rpc-server --tracker HOST:PORT --key NAME [options]\n\n"
    "Run what an RPC tracker's clients send to this board; whoever reaches its port runs\n"
    "programs here, so keep it inside of a trusted network.\n\n"
    "  --tracker HOST:PORT  the RPC tracker\n"
    "  --key NAME           what the tracker calls this board\n"
    "  --host HOST          address to listen at; a single one is told to clients [0.0.0.0]\n"
    "  --port PORT          port to listen at [9091]\n"
    "  --port-end PORT      last port to try when that is taken [9199]\n"
    "  -v, --verbose        tell of every session\n"
    "  -h, --help           print this\n";

[[noreturn]] void print_usage() {
    const bool printed = std::fputs(USAGE, stdout) >= 0 && !std::fflush(stdout);
    std::exit(printed ? EXIT_SUCCESS : EXIT_FAILURE);
}

// Of the long options, above those of one letter.
enum Option { TRACKER = 256, KEY, HOST, PORT, PORT_END, VERBOSE, HELP };

constexpr option OPTIONS[] = {
    {"tracker", required_argument, nullptr, TRACKER},
    {"key", required_argument, nullptr, KEY},
    {"host", required_argument, nullptr, HOST},
    {"port", required_argument, nullptr, PORT},
    {"port-end", required_argument, nullptr, PORT_END},
    {"verbose", no_argument, nullptr, VERBOSE},
    {"help", no_argument, nullptr, HELP},
    {},
};

[[noreturn, gnu::format(printf, 1, 2)]] void complain(const char *pattern, ...) {
    Text problem;
    std::va_list arguments;
    va_start(arguments, pattern);
    // A line of an absurd argument is cut off.
    (void)problem.format_list(pattern, arguments);
    va_end(arguments);
    notice("error: %s", problem.c_str());
    std::exit(EXIT_BAD_INPUT);
}

bool parse_port(std::string_view text, int &port) {
    port = 0;
    for (char digit : text) {
        if (digit < '0' || digit > '9' || port > LAST_PORT)
            return false;
        port = 10 * port + (digit - '0');
    }
    return 0 < port && port <= LAST_PORT;
}

int port_of(const char *option, const char *text) {
    int port;
    if (!parse_port(text, port))
        complain("argument %s: '%s' is not a port", option, text);
    return port;
}

// Printable ASCII without what JSON would escape; so all names can be sent as they are.
bool is_plain(std::string_view name) {
    for (char character : name)
        if (character <= ' ' || character > '~' || character == '"' || character == '\\')
            return false;
    return !name.empty() && name.size() <= LONGEST_NAME;
}

// HOST:PORT; an IPv6 address may stand in brackets.
Address address_of(const char *text) {
    const std::string_view whole = text;
    const std::size_t colon = whole.rfind(':');
    std::string_view host = whole.substr(0, colon);
    if (host.size() > 1 && host.front() == '[' && host.back() == ']')
        host = {host.data() + 1, host.size() - 2};
    Address address;
    if (colon == whole.npos || !is_plain(host) || !parse_port(text + colon + 1, address.port) ||
        !address.host.format("%.*s", static_cast<int>(host.size()), host.data()))
        complain("argument --tracker: '%s' is not HOST:PORT, like 192.168.0.10:9190", text);
    return address;
}

Options parse(int count, char **words) {
    Options options;
    opterr = 0;
    int chosen;
    while ((chosen = getopt_long(count, words, ":hv", OPTIONS, nullptr)) != -1) {
        switch (chosen) {
        case TRACKER:
            options.tracker = address_of(optarg);
            break;
        case KEY:
            if (!is_plain(optarg))
                complain("argument --key: '%s' is not a plain name without spaces", optarg);
            options.key = optarg;
            break;
        case HOST:
            if (!is_plain(optarg))
                complain("argument --host: '%s' is not an address", optarg);
            options.host = optarg;
            break;
        case PORT:
            options.port = port_of("--port", optarg);
            break;
        case PORT_END:
            options.port_end = port_of("--port-end", optarg);
            break;
        case 'v':
        case VERBOSE:
            options.verbose = true;
            break;
        case 'h':
        case HELP:
            print_usage();
        case ':':
            complain("argument %s: its value is missing", words[optind - 1]);
        default:
            // Only getopt knows where it is among letters.
            if (optopt > 0 && optopt < TRACKER)
                complain("unknown argument -%c: see --help", optopt);
            complain("unknown argument %s: see --help", words[optind - 1]);
        }
    }
    if (optind < count)
        complain("unknown argument %s: see --help", words[optind]);
    if (!options.key || !options.tracker.port)
        complain("--tracker and --key are required: see --help");
    if (options.port_end < options.port)
        options.port_end = options.port;
    return options;
}

} // namespace

int main(int count, char **words) {
    const Options options = parse(count, words);
    if (!catch_stop_signals())
        complain("cannot handle signals: %s", std::strerror(errno));
    int port;
    Descriptor listener = listen_at(options.host, options.port, options.port_end, port);
    if (!listener && errno == EADDRINUSE)
        complain("all of the ports %d to %d are taken: name others", options.port,
                 options.port_end);
    if (!listener)
        complain("cannot listen at %s:%d: %s", options.host, port, std::strerror(errno));
    // Unless it stands for all addresses, clients are sent to the one that this server listens at.
    const bool is_one = std::strcmp(options.host, "0.0.0.0") && std::strcmp(options.host, "::");
    Text reported_host;
    if (!reported_host.format(is_one ? "\"%s\"" : "null", options.host))
        complain("argument --host: %s", std::strerror(errno));
    notice("board '%s' listens at %s:%d", options.key, options.host, port);
    Server server(options, std::move(listener), reported_host, port);
    server.serve();
    return SIGNALLED + stop_signal();
}
