package issuer

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/anteroom-proxy/anteroom/jws"
)

const (
	requestTimeout = 5 * time.Second // for one request, its body included
	maxRedirects   = 3

	// MaxBody is how much of one answer is read, in bytes after decompression.
	MaxBody = 1 << 20
)

// What can be wrong with an answer. The texts name no part of it.
var (
	ErrTooBig  = errors.New("answer larger than 1 MiB")
	ErrNotJSON = errors.New("answer is not a strict JSON object")
	ErrType    = errors.New("answer is not application/json")
)

// StatusError is an answer with a status other than 200.
type StatusError int

func (e StatusError) Error() string { return fmt.Sprintf("answer has status %d", int(e)) }

// Client makes requests for one issuer. It is safe for concurrent use.
type Client struct {
	issuer string
	hosts  map[string]bool // lower case: all that is ever fetched from
	plain  bool            // the issuer itself is reached over http
	http   *http.Client
}

// NewClient checks the configuration and connects to nothing.
func NewClient(config ClientConfig) (*Client, error) {
	if err := config.check(); err != nil {
		return nil, err
	}
	u, err := url.Parse(config.Issuer)
	if err != nil {
		return nil, err
	}
	c := &Client{issuer: config.Issuer, plain: u.Scheme == "http", hosts: map[string]bool{strings.ToLower(u.Hostname()): true}}
	for _, host := range config.Hosts {
		c.hosts[strings.ToLower(host)] = true
	}
	c.http = &http.Client{Timeout: requestTimeout, CheckRedirect: c.checkRedirect}
	inner := http.RoundTripper(nil)
	if base := config.HTTPClient; base != nil {
		inner = base.Transport
		if base.Timeout > 0 && base.Timeout < requestTimeout {
			c.http.Timeout = base.Timeout
		}
	}
	if inner == nil {
		inner = newTransport(config)
	}
	// Cookies are never kept: two people's sign-ins share nothing.
	c.http.Transport = limits{inner}
	return c, nil
}

// Issuer is the issuer that the client is for.
func (c *Client) Issuer() string { return c.issuer }

// Do sends one request within all limits: 5 s with the body, 1 MiB after
// decompression, no cookies, no redirect to another host, nothing that has a
// body twice. A request to a host that is not listed is not sent. The caller
// closes the body.
func (c *Client) Do(r *http.Request) (*http.Response, error) {
	if err := c.checkURL(r.URL); err != nil {
		return nil, err
	}
	return c.http.Do(r)
}

// checkRedirect lets a plain fetch move within its origin. Whatever carries a
// code, a secret or a token goes where it was addressed or nowhere.
func (c *Client) checkRedirect(r *http.Request, via []*http.Request) error {
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
	r.Header.Del("Accept-Encoding") // the transport decompresses what it asked for itself
	if r.Header.Get("Accept") == "" {
		r.Header.Set("Accept", "application/json")
	}
	r.Header.Set("User-Agent", "anteroom")
	// A body that cannot be read a second time is never sent a second time:
	// a code works once, and a second try would burn it (OpenID Connect
	// Core 1.0, section 3.1.3.2).
	r.GetBody = nil
	response, err := l.inner.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	if response.ContentLength > MaxBody {
		response.Body.Close()
		return nil, ErrTooBig
	}
	response.Body = &limitedBody{body: response.Body, left: MaxBody}
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
		return 0, ErrTooBig
	}
	b.left -= n
	return n, err
}

func (b *limitedBody) Close() error { return b.body.Close() }

// JSON fetches one strict JSON object. With a bearer token the answer must
// say that it is JSON: a signed or HTML answer is not what was asked for.
func (c *Client) JSON(ctx context.Context, address, bearer string) (jws.Claims, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, errors.New("unusable address")
	}
	if bearer != "" {
		r.Header.Set("Authorization", "Bearer "+bearer)
	}
	response, err := c.Do(r)
	if err != nil {
		return nil, Cause(err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return nil, StatusError(response.StatusCode)
	}
	if bearer != "" && !IsJSON(response.Header) {
		return nil, ErrType
	}
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return nil, Cause(err)
	}
	return ParseObject(body)
}

// IsJSON says whether an answer calls itself application/json.
func IsJSON(h http.Header) bool {
	kind, _, err := mime.ParseMediaType(h.Get("Content-Type"))
	return err == nil && kind == "application/json"
}

// ParseObject reads a JSON object by the rules that package jws has for a
// payload: no duplicate members, exact names, bounded depth.
func ParseObject(body []byte) (jws.Claims, error) {
	object, err := (&jws.Token{Payload: body}).Claims()
	if err != nil {
		return nil, ErrNotJSON
	}
	return object, nil
}

// These say that the other side may have done what was asked: a token in the request
// may be used up.
var (
	errNoAnswer = fmt.Errorf("no answer in time: %w", context.DeadlineExceeded)
	errBroken   = fmt.Errorf("connection failed: %w", io.ErrUnexpectedEOF)
)

// Cause keeps of a network error what helps an operator and drops what might
// quote the other side, such as a malformed status line.
func Cause(err error) error {
	if status, ok := errors.AsType[StatusError](err); ok {
		return status
	}
	for _, known := range []error{ErrType, ErrNotJSON, ErrTooBig, context.Canceled} {
		if errors.Is(err, known) {
			return known
		}
	}
	if e, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return e
	}
	if e, ok := errors.AsType[*net.OpError](err); ok {
		return e
	}
	if timed, ok := errors.AsType[net.Error](err); ok && timed.Timeout() {
		return errNoAnswer
	}
	return errBroken
}
