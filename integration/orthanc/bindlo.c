/*
 * bindlo: an LD_PRELOAD shim that keeps a program on loopback.
 *
 * Orthanc 1.10 listens on all interfaces for HTTP and for DICOM and has no option against it. A test must not open a
 * port to the network, so every bind() to a wildcard address becomes a bind() to the loopback address of the family.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>

typedef int (*bind_fn)(int, const struct sockaddr *, socklen_t);

int bind(int fd, const struct sockaddr *addr, socklen_t len)
{
	bind_fn next = (bind_fn)dlsym(RTLD_NEXT, "bind");

	if (addr->sa_family == AF_INET && len >= sizeof(struct sockaddr_in)) {
		struct sockaddr_in v4;
		memcpy(&v4, addr, sizeof v4);
		if (v4.sin_addr.s_addr == htonl(INADDR_ANY)) {
			v4.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
			return next(fd, (struct sockaddr *)&v4, sizeof v4);
		}
	}
	if (addr->sa_family == AF_INET6 && len >= sizeof(struct sockaddr_in6)) {
		struct sockaddr_in6 v6;
		memcpy(&v6, addr, sizeof v6);
		if (IN6_IS_ADDR_UNSPECIFIED(&v6.sin6_addr)) {
			v6.sin6_addr = in6addr_loopback;
			return next(fd, (struct sockaddr *)&v6, sizeof v6);
		}
	}
	return next(fd, addr, len);
}
