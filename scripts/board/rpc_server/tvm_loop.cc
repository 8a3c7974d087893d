// SPDX-License-Identifier: Apache-2.0
//
// TVM's runtime is called through the C functions of tvm-ffi: nothing of C++, neither exceptions
// nor types, passes between this program and TVM's libraries, which bring a C++ library of theirs.

#include "tvm_loop.h"

#include <cstdio>
#include <string_view>
#include <tvm/ffi/c_api.h>

#include "text.h"

namespace {

TVMFFIByteArray bytes(std::string_view text) { return {text.data(), text.size()}; }

// Name the reason of a failed call to whoever called.
int raise(const char *reason) {
    TVMFFIErrorSetRaisedFromCStr("ValueError", reason);
    return -1;
}

// A reference to one of TVM's objects.
class Object {
  public:
    Object() = default;
    Object(const Object &) = delete;
    Object &operator=(const Object &) = delete;
    ~Object() {
        // It fails for no object only.
        if (handle)
            (void)TVMFFIObjectDecRef(handle);
    }
    TVMFFIObjectHandle handle = nullptr;
};

// Call a function of the runtime.
int call(const char *name, TVMFFIAny argument, TVMFFIAny *result) {
    const TVMFFIByteArray key = bytes(name);
    Object function;
    if (TVMFFIFunctionGetGlobal(&key, &function.handle))
        return -1;
    if (!function.handle)
        return raise("this TVM runtime lacks a function that an RPC server needs");
    return TVMFFIFunctionCall(function.handle, &argument, 1, result);
}

// The path of the file that the one argument names.
bool path_of(const char *folder, const TVMFFIAny *arguments, int count, Text &path) {
    if (count != 1)
        return false;
    TVMFFIByteArray name;
    switch (arguments->type_index) {
    case kTVMFFIRawStr:
        name = bytes(arguments->v_c_str);
        break;
    case kTVMFFISmallStr:
        name = TVMFFISmallBytesGetContentByteArray(arguments);
        break;
    case kTVMFFIStr:
        name = *TVMFFIBytesGetByteArrayPtr(arguments->v_obj);
        break;
    default:
        return false;
    }
    return path.format("%s/%.*s", folder, static_cast<int>(name.size), name.data);
}

int workpath(void *folder, const TVMFFIAny *arguments, int count, TVMFFIAny *result) {
    Text path;
    if (!path_of(static_cast<const char *>(folder), arguments, count, path))
        return raise("workpath: expected one short file name");
    const TVMFFIByteArray text = bytes(path.view());
    return TVMFFIStringFromByteArray(&text, result);
}

int load_module(void *folder, const TVMFFIAny *arguments, int count, TVMFFIAny *result) {
    Text path;
    if (!path_of(static_cast<const char *>(folder), arguments, count, path))
        return raise("load_module: expected one short file name");
    TVMFFIAny argument = {};
    argument.type_index = kTVMFFIRawStr;
    argument.v_c_str = path.c_str();
    return call("ffi.ModuleLoadFromFile", argument, result);
}

bool provide(const char *name, TVMFFISafeCallType function, const char *folder) {
    Object made;
    const TVMFFIByteArray key = bytes(name);
    return !TVMFFIFunctionCreate(const_cast<char *>(folder), function, nullptr, &made.handle) &&
           !TVMFFIFunctionSetGlobal(&key, made.handle, 1);
}

void print_error() {
    Object error;
    TVMFFIErrorMoveFromRaised(&error.handle);
    if (!error.handle)
        return;
    const TVMFFIErrorCell *cell = TVMFFIErrorGetCellPtr(error.handle);
    std::fprintf(stderr, "%.*s\n", static_cast<int>(cell->message.size), cell->message.data);
}

} // namespace

bool serve_tvm(int socket, const char *folder) {
    TVMFFIAny argument = {}, result = {};
    argument.type_index = kTVMFFIInt;
    argument.v_int64 = socket;
    const bool served = provide("tvm.rpc.server.workpath", workpath, folder) &&
                        provide("tvm.rpc.server.load_module", load_module, folder) &&
                        !call("rpc.ServerLoop", argument, &result);
    if (!served)
        print_error();
    return served;
}
