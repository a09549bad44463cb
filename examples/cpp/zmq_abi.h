// The part of libzmq's C interface that the client uses, for machines with the library but without its header.
// Names, values and layouts are those of libzmq 4 (soname 5), which keeps them stable; zmq.h is used where it exists.
#pragma once

#if __has_include(<zmq.h>)
#include <zmq.h>
#else
#ifdef _WIN32
#error "Install libzmq with its header zmq.h."
#endif
#include <cstddef>

extern "C" {
typedef struct {
  void* socket;
  int fd;
  short events;
  short revents;
} zmq_pollitem_t;

void* zmq_ctx_new(void);
int zmq_ctx_term(void* context);
void* zmq_socket(void* context, int type);
int zmq_close(void* socket);
int zmq_setsockopt(void* socket, int option, const void* value, size_t size);
int zmq_getsockopt(void* socket, int option, void* value, size_t* size);
int zmq_connect(void* socket, const char* address);
int zmq_send(void* socket, const void* data, size_t size, int flags);
int zmq_recv(void* socket, void* data, size_t size, int flags);
int zmq_poll(zmq_pollitem_t* items, int count, long timeout_ms);
int zmq_errno(void);
const char* zmq_strerror(int error);
}

#define ZMQ_DEALER 5
#define ZMQ_RCVMORE 13
#define ZMQ_LINGER 17
#define ZMQ_IMMEDIATE 39
#define ZMQ_CURVE_PUBLICKEY 48
#define ZMQ_CURVE_SECRETKEY 49
#define ZMQ_CURVE_SERVERKEY 50
#define ZMQ_HANDSHAKE_IVL 66
#define ZMQ_DONTWAIT 1
#define ZMQ_SNDMORE 2
#define ZMQ_POLLIN 1
#define ZMQ_POLLOUT 2
#endif
