// Package loopback says whether a request comes from a program on this host (DESIGN.md, invariant 7) and whether that
// program may call. It serves every service of ours that answers local programs.
//
// Call [Owns] with the request's path, [Judge] with what is known of its connection, and [Callers.Check] with its
// credential.
//
// It promises:
//   - a request is local only when the addresses of its own connection say so, all of them, never by a header;
//   - what is not known of a connection refuses;
//   - nobody is let in by an address alone: without a configured caller [Callers.Check] refuses everybody;
//   - no token, and nothing that a caller wrote, in an error, a log line or a printed value.
//
// It trusts the facts that its caller collects in [Facts], and the kernel. It leaves to its caller: TLS, limits and the
// audit log.
//
// Standards: bearer credentials RFC 6750 section 2.1, subject public key info RFC 5280 section 4.1.2.7, early data RFC 8470.
package loopback

import (
	"crypto/sha256"
	"net/http"
	"net/netip"
)

// Facts are what the connection itself says of a request. The zero value is refused everywhere.
type Facts struct {
	// KernelRemote and KernelLocal are the socket's own two addresses, below TLS and below the PROXY protocol; zero when
	// they cannot be known (HTTP/3, an unknown wrapper) or do not exist (a Unix socket, see Peer).
	KernelRemote, KernelLocal netip.Addr
	// Remote is the address that the HTTP server names, Client the one that trusted proxies lead to.
	Remote, Client netip.Addr
	// ProtoMajor and ProtoMinor are the HTTP version.
	ProtoMajor, ProtoMinor int
	// TLSVersion is 0 without TLS; HandshakeComplete is false for early data.
	TLSVersion        uint16
	HandshakeComplete bool
	// SNI and Host are the name of the handshake and of the request; Host may carry a port.
	SNI, Host string
	// Header are the request's headers.
	Header http.Header
	// Peer is the process at the other end of a Unix socket; nil when the connection is none.
	Peer *Peer
	// ClientCertificate is the SHA-256 of the public key (SubjectPublicKeyInfo) of a client certificate that is valid now
	// and whose key the handshake has seen in use. Zero: there was none.
	ClientCertificate [sha256.Size]byte
}

// Peer is what the kernel says of the process that connected to a Unix socket (SO_PEERCRED): its effective ids at that
// moment. Ids that are not known are -1.
type Peer struct{ UID, GID, PID int }
