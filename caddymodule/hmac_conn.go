package caddymodule

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"net/netip"
	"time"

	"github.com/anteroom-proxy/anteroom/loopback"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/pires/go-proxyproto"
)

// socketKey is the context key of a connection's own addresses.
type socketKey struct{}

// socket is what the kernel says of a connection, below TLS and below the PROXY protocol: two addresses, or the process at
// the other end of a Unix socket.
type socket struct {
	remote, local netip.Addr
	peer          *loopback.Peer
}

// rememberSocket puts a connection's own addresses into the context of its requests (invariant 7). A wrapper that it does
// not know leaves them out, and the service declines: what it cannot see through may say anything. HTTP/3 has no such hook
// and declines for the same reason.
func rememberSocket(ctx context.Context, c net.Conn) context.Context {
	if s, ok := socketOf(c); ok {
		return context.WithValue(ctx, socketKey{}, s)
	}
	return ctx
}

func socketOf(c net.Conn) (socket, bool) {
	for range 8 {
		switch inner := c.(type) {
		case *tls.Conn:
			c = inner.NetConn()
		case *proxyproto.Conn:
			c = inner.Raw()
		case *net.TCPConn:
			remote, ok1 := inner.RemoteAddr().(*net.TCPAddr)
			local, ok2 := inner.LocalAddr().(*net.TCPAddr)
			if !ok1 || !ok2 {
				return socket{}, false
			}
			return socket{remote: remote.AddrPort().Addr().Unmap(), local: local.AddrPort().Addr().Unmap()}, true
		case *net.UnixConn:
			return socket{peer: loopback.PeerOf(inner)}, true
		default:
			return socket{}, false
		}
	}
	return socket{}, false
}

// factsOf collects what the connection of a request says; the loopback package judges it.
func factsOf(r *http.Request) loopback.Facts {
	f := loopback.Facts{ProtoMajor: r.ProtoMajor, ProtoMinor: r.ProtoMinor, Host: r.Host, Header: r.Header}
	if s, ok := r.Context().Value(socketKey{}).(socket); ok {
		f.KernelRemote, f.KernelLocal, f.Peer = s.remote, s.local, s.peer
	}
	if ap, err := netip.ParseAddrPort(r.RemoteAddr); err == nil {
		f.Remote = ap.Addr().Unmap()
	}
	if ip, ok := caddyhttp.GetVar(r.Context(), caddyhttp.ClientIPVarKey).(string); ok {
		if a, err := netip.ParseAddr(ip); err == nil {
			f.Client = a.Unmap()
		}
	}
	if r.TLS != nil {
		f.TLSVersion, f.HandshakeComplete, f.SNI = r.TLS.Version, r.TLS.HandshakeComplete, r.TLS.ServerName
		if len(r.TLS.PeerCertificates) > 0 {
			f.ClientCertificate = loopback.CertificateOf(r.TLS, time.Now())
		}
	}
	return f
}
