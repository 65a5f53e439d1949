package issuer

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"syscall"
	"time"
)

// newTransport makes connections for one issuer: a proxy except for loopback,
// TLS 1.2 or newer, and no address that a name server could have named to make
// us knock at our own doors.
func newTransport(config ClientConfig) http.RoundTripper {
	trusted := map[string]bool{} // hosts that may be anywhere: the configuration says where they are
	if u, err := url.Parse(config.Issuer); err == nil {
		trusted[strings.ToLower(u.Hostname())] = true
	}
	for _, host := range config.Hosts {
		if _, err := netip.ParseAddr(host); err == nil || isLoopback(host) {
			trusted[host] = true
		}
	}
	var proxies sync.Map // host:port of proxies in use
	dial := func(ctx context.Context, network, address string) (net.Conn, error) {
		dialer := &net.Dialer{Timeout: requestTimeout}
		host, _, err := net.SplitHostPort(address)
		if err != nil {
			return nil, err
		}
		_, isProxy := proxies.Load(address)
		// The name was judged when the metadata came; what it resolves
		// to is judged here, at the very address that is dialled.
		if !isProxy && !trusted[strings.ToLower(host)] {
			dialer.Control = func(_, dialled string, _ syscall.RawConn) error {
				to, err := netip.ParseAddrPort(dialled)
				if err != nil {
					return err
				}
				return checkAddress(to.Addr())
			}
		}
		return dialer.DialContext(ctx, network, address)
	}
	tlsConfig := &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: config.Roots}
	if config.Certificate != nil {
		tlsConfig.Certificates = []tls.Certificate{*config.Certificate}
	}
	return &http.Transport{
		Proxy: func(r *http.Request) (*url.URL, error) {
			if isLoopback(r.URL.Hostname()) {
				return nil, nil
			}
			proxy, err := config.Proxy, error(nil)
			if proxy == nil {
				proxy, err = http.ProxyFromEnvironment(r)
			}
			if proxy != nil {
				proxies.Store(proxyAddress(proxy), true)
			}
			return proxy, err
		},
		DialContext:            dial,
		TLSClientConfig:        tlsConfig,
		TLSHandshakeTimeout:    requestTimeout,
		ForceAttemptHTTP2:      true,
		MaxIdleConns:           4,
		IdleConnTimeout:        30 * time.Second,
		MaxResponseHeaderBytes: 64 << 10,
	}
}

// proxyAddress is what net/http dials for a proxy.
func proxyAddress(proxy *url.URL) string {
	port := proxy.Port()
	if port == "" {
		port = map[string]string{"https": "443", "socks5": "1080", "socks5h": "1080"}[proxy.Scheme]
	}
	if port == "" {
		port = "80"
	}
	return net.JoinHostPort(proxy.Hostname(), port)
}
