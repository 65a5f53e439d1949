package oidc

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"sync"
	"syscall"
	"time"

	"github.com/anteroom-proxy/anteroom/jws"
)

const (
	requestTimeout = 5 * time.Second // for one request, its body included
	maxBody        = 1 << 20         // bytes of one answer, after decompression
	maxRedirects   = 3
)

// What can be wrong with an answer. The texts name no part of it.
var (
	errTooBig  = errors.New("answer larger than 1 MiB")
	errNotJSON = errors.New("answer is not a strict JSON object")
	errType    = errors.New("answer is not application/json")
)

// statusError is an answer with a status other than 200.
type statusError int

func (e statusError) Error() string { return fmt.Sprintf("answer has status %d", int(e)) }

// newClient puts the limits around base. Cookies are never kept: two people's
// sign-ins share nothing.
func newClient(base *http.Client, issuer string) *http.Client {
	client := &http.Client{Timeout: requestTimeout, CheckRedirect: checkRedirect}
	inner := http.RoundTripper(nil)
	if base != nil {
		inner = base.Transport
		if base.Timeout > 0 && base.Timeout < requestTimeout {
			client.Timeout = base.Timeout
		}
	}
	if inner == nil {
		inner = newTransport(issuer)
	}
	client.Transport = limits{inner}
	return client
}

// checkRedirect lets a plain fetch move within its origin. Whatever carries a
// code, a secret or a token goes where it was addressed or nowhere.
func checkRedirect(r *http.Request, via []*http.Request) error {
	first := via[0]
	if first.Method != http.MethodGet || first.Header.Get("Authorization") != "" || len(via) > maxRedirects ||
		r.URL.Scheme != first.URL.Scheme || r.URL.Host != first.URL.Host {
		return http.ErrUseLastResponse
	}
	return nil
}

// limits bounds every answer.
type limits struct{ inner http.RoundTripper }

func (l limits) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Del("Cookie")
	r.Header.Set("Accept", "application/json")
	r.Header.Set("User-Agent", "anteroom")
	// A body that cannot be read a second time is never sent a second time:
	// a code works once, and a second try would burn it (OpenID Connect
	// Core 1.0, section 3.1.3.2).
	r.GetBody = nil
	response, err := l.inner.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	if response.ContentLength > maxBody {
		response.Body.Close()
		return nil, errTooBig
	}
	response.Body = &limitedBody{body: response.Body, left: maxBody}
	return response, nil
}

// limitedBody fails where io.LimitReader would end quietly: a cut document can
// be a valid one that says something else.
type limitedBody struct {
	body io.ReadCloser
	left int
}

func (b *limitedBody) Read(p []byte) (int, error) {
	if len(p) > b.left+1 {
		p = p[:b.left+1]
	}
	n, err := b.body.Read(p)
	if n > b.left {
		return 0, errTooBig
	}
	b.left -= n
	return n, err
}

func (b *limitedBody) Close() error { return b.body.Close() }

// newTransport makes connections for one issuer: proxies from the environment
// except for loopback, TLS 1.2 or newer, and no address that the metadata could
// have named to make us knock at our own doors.
func newTransport(issuer string) http.RoundTripper {
	issuerHost := ""
	if u, err := url.Parse(issuer); err == nil {
		issuerHost = u.Hostname()
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
		if !isProxy && host != issuerHost && !(isLoopback(issuerHost) && isLoopback(host)) {
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
	return &http.Transport{
		Proxy: func(r *http.Request) (*url.URL, error) {
			if isLoopback(r.URL.Hostname()) {
				return nil, nil
			}
			proxy, err := http.ProxyFromEnvironment(r)
			if proxy != nil {
				proxies.Store(proxyAddress(proxy), true)
			}
			return proxy, err
		},
		DialContext:            dial,
		TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12},
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

// getJSON fetches one strict JSON object. With a bearer token the answer must
// say that it is JSON: a signed or HTML answer is not what was asked for.
func (s *Source) getJSON(ctx context.Context, address, bearer string) (jws.Claims, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, errors.New("unusable address")
	}
	if bearer != "" {
		r.Header.Set("Authorization", "Bearer "+bearer)
	}
	response, err := s.client.Do(r)
	if err != nil {
		return nil, cause(err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return nil, statusError(response.StatusCode)
	}
	if bearer != "" && !isJSON(response.Header) {
		return nil, errType
	}
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return nil, cause(err)
	}
	return parseObject(body)
}

func isJSON(h http.Header) bool {
	kind, _, err := mime.ParseMediaType(h.Get("Content-Type"))
	return err == nil && kind == "application/json"
}

// parseObject reads a JSON object by the rules that package jws has for a
// payload: no duplicate members, exact names, bounded depth.
func parseObject(body []byte) (jws.Claims, error) {
	object, err := (&jws.Token{Payload: body}).Claims()
	if err != nil {
		return nil, errNotJSON
	}
	return object, nil
}
