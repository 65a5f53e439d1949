package alarm

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"syscall"
	"time"
)

const (
	postTimeout = 10 * time.Second // the answer included
	maxAnswer   = 64 << 10         // bytes of it that are read, so that the connection can be used again
	maxURL      = 2048
)

// hook is where events are sent. The address is never printed: those of chat programs are secrets.
type hook struct {
	address string
	token   Secret
	trip    http.RoundTripper // and no http.Client: it follows redirects, keeps cookies, and repeats a Location that it cannot read
}

func newHook(c Config) (*hook, error) {
	u, err := url.Parse(c.Webhook)
	if err != nil || len(c.Webhook) > maxURL {
		return nil, errors.New("the address of the webhook is not a URL") // url's error repeats it
	}
	if err := checkAddress(u); err != nil {
		return nil, err
	}
	h := &hook{address: u.String(), token: c.Token}
	if c.Client != nil && c.Client.Transport != nil {
		h.trip = c.Client.Transport
	} else {
		h.trip = newTransport(u.Scheme == "http")
	}
	return h, nil
}

func checkAddress(u *url.URL) error {
	switch {
	case u.Scheme != "https" && u.Scheme != "http":
		return errors.New("the webhook needs an address that begins with https://")
	case u.Host == "" || u.Hostname() == "" || u.Opaque != "":
		return errors.New("the address of the webhook has no host")
	case u.User != nil:
		return errors.New("the address of the webhook contains a username or password: use a token instead")
	case u.Fragment != "":
		return errors.New("the address of the webhook has a fragment (#…), which is never sent: remove it")
	case u.Scheme == "http" && !loopbackHost(u.Hostname()):
		return fmt.Errorf("the webhook at %s needs https: names and patients are in what is sent; http is for 127.0.0.1, ::1 and localhost only", clean(u.Hostname(), capShort))
	}
	return nil
}

func loopbackHost(host string) bool {
	if host == "localhost" {
		return true
	}
	addr, err := netip.ParseAddr(host)
	return err == nil && addr.Zone() == "" && addr.IsLoopback()
}

// newTransport makes connections of our own. One without TLS is to this machine, whatever a name resolves to, and takes no
// proxy.
func newTransport(plain bool) *http.Transport {
	dialer := &net.Dialer{Timeout: postTimeout}
	t := &http.Transport{
		Proxy: http.ProxyFromEnvironment, DialContext: dialer.DialContext, ForceAttemptHTTP2: true, DisableCompression: true,
		MaxIdleConns: 1, IdleConnTimeout: 30 * time.Second, TLSHandshakeTimeout: postTimeout,
		TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12},
	}
	if plain {
		t.Proxy = nil
		dialer.ControlContext = func(_ context.Context, _, address string, _ syscall.RawConn) error {
			ap, err := netip.ParseAddrPort(address)
			if err != nil || !ap.Addr().Unmap().IsLoopback() {
				return errors.New("http is for this machine only")
			}
			return nil
		}
	}
	return t
}

// post sends an event once. Every error matches ErrDelivery; none contains the address, the token or the answer.
func (h *hook) post(ctx context.Context, e *Event) error {
	body, err := json.Marshal(e.json())
	if err != nil {
		return fmt.Errorf("%w: %w", ErrDelivery, err)
	}
	ctx, cancel := context.WithTimeout(ctx, postTimeout)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, h.address, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("%w: the request cannot be made", ErrDelivery)
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("User-Agent", "anteroom")
	r.Header.Set("Idempotency-Key", e.ID)
	if token := h.token.reveal(); token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	res, err := h.trip.RoundTrip(r) // redirects are not followed: event and token go where they were addressed or nowhere
	if err != nil {
		return fmt.Errorf("%w: %w", ErrDelivery, ours(err))
	}
	defer res.Body.Close()
	_, _ = io.CopyN(io.Discard, res.Body, maxAnswer) // for the connection's sake only
	return judge(res.StatusCode)
}

// ours is what an error says of this side: time, name, connection, certificate. Of what came back net/http repeats the very part that
// it could not read, which may be the address.
func ours(err error) error {
	var (
		lookup *net.DNSError
		op     *net.OpError
		cert   *tls.CertificateVerificationError
		record tls.RecordHeaderError
	)
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return context.DeadlineExceeded
	case errors.Is(err, context.Canceled):
		return context.Canceled
	case errors.As(err, &lookup):
		return lookup
	case errors.As(err, &op) && op.Op != "proxyconnect":
		return op
	case errors.As(err, &cert):
		return cert
	case errors.As(err, &record):
		return errors.New("it does not speak TLS")
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return errors.New("it closed the connection without an answer")
	}
	return errors.New("there was no answer of HTTP that can be read")
}

func judge(status int) error {
	switch {
	case status >= 200 && status < 300:
		return nil
	case status >= 500, status == http.StatusRequestTimeout, status == http.StatusTooEarly, status == http.StatusTooManyRequests:
		return fmt.Errorf("%w: it answered %d", ErrDelivery, status)
	case status >= 300 && status < 400:
		return refused(fmt.Sprintf("it answered %d, and redirects are not followed: configure the address that it ends at", status))
	case status == http.StatusUnauthorized, status == http.StatusForbidden:
		return refused(fmt.Sprintf("it answered %d: check the token", status))
	}
	return refused(fmt.Sprintf("it answered %d", status))
}

func refused(why string) error { return fmt.Errorf("%w: %w: %s", ErrDelivery, ErrRefused, why) }
