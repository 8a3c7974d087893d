// SPDX-License-Identifier: Apache-2.0

#pragma once

// Let TVM's runtime serve the client at this socket until it leaves, with the files in `folder`,
// which outlives the call. False: it could not; standard error says why.
bool serve_tvm(int socket, const char *folder);
