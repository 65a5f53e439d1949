package careconnect

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/anteroom-proxy/anteroom/upstreams/synthetic"
)

// hardener calls the password hardening service of this host:
//
//	POST <base>/v1/protect {"items":[{"uid","secret","context"}]} gives {"items":[{"record"}]}
//	POST <base>/v1/verify  {"uid","secret","context","record"}    gives {"match","needs_rehash","record"}
//
// each with a bearer credential. Its errors are Problems that tell the person
// that nothing changed; the cause goes to the log, never the secret.
type hardener struct {
	base, tokenFile, caFile string
	log                     *slog.Logger
}

type hardenItem struct {
	UID     string `json:"uid"`
	Secret  string `json:"secret"`
	Context string `json:"context"`
	Record  string `json:"record,omitempty"`
}

type verifyAnswer struct {
	Match       bool    `json:"match"`
	NeedsRehash bool    `json:"needs_rehash"`
	Record      *string `json:"record"`
}

func newHardener(c Config) (*hardener, error) {
	h := &hardener{base: strings.TrimSuffix(c.HMACURL, "/"), tokenFile: c.TokenFile, caFile: c.CAFile, log: c.Logger}
	if h.log == nil {
		h.log = slog.New(slog.DiscardHandler)
	}
	if h.base == "" {
		return h, nil
	}
	u, err := url.Parse(h.base)
	if err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return nil, fmt.Errorf("reading the address of the hardening service: %q is not like https://localhost:8444/hmac-service", c.HMACURL)
	}
	if h.tokenFile == "" {
		return nil, errors.New("reading the address of the hardening service: it needs a token file besides")
	}
	return h, nil
}

// protect returns the record to store for a new PIN.
func (h *hardener) protect(ctx context.Context, uid, pin string) (string, error) {
	in := struct {
		Items []hardenItem `json:"items"`
	}{[]hardenItem{{UID: uid, Secret: pin, Context: pinContext}}}
	var out struct {
		Items []struct{ Record string } `json:"items"`
	}
	if err := h.call(ctx, "protect", in, &out); err != nil {
		return "", err
	}
	if len(out.Items) != 1 || out.Items[0].Record == "" {
		return "", h.unavailable(errors.New("the answer holds no record"))
	}
	return out.Items[0].Record, nil
}

// verify asks whether pin is the one that record was made of.
func (h *hardener) verify(ctx context.Context, uid, pin, record string) (verifyAnswer, error) {
	var out verifyAnswer
	if !goodPIN(pin) { // never stored, so it cannot match
		return out, nil
	}
	err := h.call(ctx, "verify", hardenItem{UID: uid, Secret: pin, Context: pinContext, Record: record}, &out)
	return out, err
}

func (h *hardener) call(ctx context.Context, op string, in, out any) error {
	if h.base == "" {
		return h.unavailable(errors.New("no hardening service is configured"))
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	client, err := h.client()
	if err != nil {
		return h.unavailable(err)
	}
	defer client.CloseIdleConnections()
	token, err := os.ReadFile(h.tokenFile)
	if err != nil {
		return h.unavailable(err)
	}
	body, err := json.Marshal(in)
	if err != nil {
		return h.unavailable(err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, h.base+"/v1/"+op, bytes.NewReader(body))
	if err != nil {
		return h.unavailable(err)
	}
	req.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(token)))
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", "careconnect/1")
	res, err := client.Do(req)
	if err != nil {
		return h.unavailable(err)
	}
	defer res.Body.Close()
	switch res.StatusCode {
	case http.StatusOK:
	case http.StatusTooManyRequests:
		return synthetic.Refuse(http.StatusTooManyRequests, "There were too many attempts. Please wait a little and try again. Nothing was changed.")
	default:
		return h.unavailable(fmt.Errorf("the service answered %s", res.Status))
	}
	if err := json.NewDecoder(io.LimitReader(res.Body, 64<<10)).Decode(out); err != nil {
		return h.unavailable(fmt.Errorf("reading the answer: %w", err))
	}
	return nil
}

// client is made for each call: PINs are rare, and a new CA file counts at once.
// It uses no proxy and follows no redirect; the PIN goes to this host only.
func (h *hardener) client() (*http.Client, error) {
	conf := &tls.Config{MinVersion: tls.VersionTLS13}
	if h.caFile != "" {
		pem, err := os.ReadFile(h.caFile)
		if err != nil {
			return nil, err
		}
		conf.RootCAs = x509.NewCertPool()
		if !conf.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("reading %s: no certificate in it", h.caFile)
		}
	}
	return &http.Client{
		Transport:     &http.Transport{TLSClientConfig: conf, ForceAttemptHTTP2: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}, nil
}

func (h *hardener) unavailable(cause error) error {
	h.log.Error("calling the hardening service", "err", cause)
	return synthetic.Refuse(http.StatusServiceUnavailable, "The portal PIN cannot be set or checked just now. Nothing was changed, and a PIN that was set before is still valid. Please try again in a few minutes.")
}
