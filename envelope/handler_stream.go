package envelope

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"time"

	"github.com/anteroom-proxy/anteroom/audit"
)

// stall is how long a client may neither send nor take anything. A client that does not read while it writes stands still
// for ever, and would keep its place.
const stall = time.Minute

func (c *call) streamSeal() error {
	q, err := parseStream(c.r.URL.RawQuery, c.service.cfg.Tenant)
	if err != nil {
		return err
	}
	return c.stream(func(ctx context.Context, dst io.Writer, src io.Reader) error {
		return sealStream(ctx, noting{c.service.cfg.Vault, c}, q.subject, dst, src)
	})
}

func (c *call) streamOpen() error {
	q, err := parseStream(c.r.URL.RawQuery, c.service.cfg.Tenant, "first", "more")
	if err != nil {
		return err
	}
	return c.stream(func(ctx context.Context, dst io.Writer, src io.Reader) error {
		return openStream(ctx, noting{c.service.cfg.Vault, c}, q.subject, q.span, dst, src)
	})
}

func (c *call) streamReseal() error {
	q, err := parseStream(c.r.URL.RawQuery, c.service.cfg.Tenant, "header")
	if err != nil {
		return err
	}
	return c.stream(func(ctx context.Context, dst io.Writer, src io.Reader) error {
		if !q.header {
			return resealStream(ctx, resealing{noting{c.service.cfg.Vault, c}}, q.subject, dst, src)
		}
		header, err := io.ReadAll(io.LimitReader(src, int64(headerPrefix+maxSealedKey+1)))
		if err != nil {
			return fmt.Errorf("%w: %w", errSource, err)
		}
		header, _, err = resealHeader(ctx, noting{c.service.cfg.Vault, c}, q.subject, header)
		if err != nil {
			return err
		}
		_, err = dst.Write(header)
		return err
	})
}

// resealing opens also what is under a condemned key: by resealing it first.
type resealing struct{ Vault }

func (v resealing) Open(ctx context.Context, label string, sealed []byte) ([]byte, error) {
	out, _, err := v.Reseal(ctx, label, sealed)
	if err != nil {
		return nil, err
	}
	return v.Vault.Open(ctx, label, out)
}

// stream runs work between the request's body and the answer. Before the first byte of the answer an error is an answer
// like any other; behind it the connection is broken off.
func (c *call) stream(work func(ctx context.Context, dst io.Writer, src io.Reader) error) error {
	media, _, err := mime.ParseMediaType(c.r.Header.Get("Content-Type"))
	if err != nil || media != "application/octet-stream" || c.r.Header.Get("Content-Encoding") != "" {
		return errContentType
	}
	if err := c.service.cfg.Limits.enter(); err != nil {
		return err
	}
	control := http.NewResponseController(c.w)
	_ = control.EnableFullDuplex() // HTTP/1.1: go on reading after the answer has begun; HTTP/2 always does
	defer func() {
		_ = control.SetReadDeadline(time.Time{}) // the connection outlives the request
		_ = control.SetWriteDeadline(time.Time{})
	}()
	dst := &streamAnswer{call: c, control: control}
	err = work(c.r.Context(), dst, &streamBody{c.r.Body, c, control})
	if err == nil {
		err = dst.begin() // an empty document
	}
	if err == nil {
		return nil
	}
	if !dst.begun {
		return err
	}
	ref := audit.NewRef()
	c.reason = "broken." + refusalFor(err).reason
	if errors.Is(err, errGone) {
		c.reason = "broken.client"
	}
	if recordErr := c.recordFailure(err, ref); recordErr != nil {
		c.service.cfg.Logger.Error("the end of a stream could not be recorded", "error", recordErr, "ref", ref)
	}
	panic(http.ErrAbortHandler) // no clean end: the client must not take a part for the whole
}

// errGone says that the client takes nothing any more.
var errGone = errors.New("the client is gone")

// streamAnswer is the body of the answer. It begins with its first byte.
type streamAnswer struct {
	call    *call
	control *http.ResponseController
	begun   bool
}

// begin records the request, and then lets the answer begin.
func (a *streamAnswer) begin() error {
	if a.begun {
		return nil
	}
	if err := a.call.recordAllowed(1); err != nil {
		return err
	}
	a.begun = true
	a.call.w.Header().Set("Content-Type", "application/octet-stream")
	noStore(a.call.w.Header())
	a.call.w.WriteHeader(http.StatusOK)
	return nil
}

func (a *streamAnswer) Write(b []byte) (int, error) {
	if err := a.begin(); err != nil {
		return 0, err
	}
	_ = a.control.SetWriteDeadline(time.Now().Add(stall))
	n, err := a.call.w.Write(b)
	if err != nil {
		return n, fmt.Errorf("%w: %w", errGone, err)
	}
	return n, nil
}

// streamBody is the body of the request.
type streamBody struct {
	io.Reader
	call    *call
	control *http.ResponseController
}

// Read reads, and then waits until the limit allows what was read: the client waits with it, because nothing is taken from it.
func (b *streamBody) Read(p []byte) (int, error) {
	_ = b.control.SetReadDeadline(time.Now().Add(stall))
	n, err := b.Reader.Read(p)
	limits := b.call.service.cfg.Limits
	limits.counts.read(b.call.operation(), n)
	wait := limits.slow(n)
	if err != nil || wait > 0 { // a client that has sent everything may take its time to read, and one that has to wait is not slow
		_ = b.control.SetReadDeadline(time.Time{})
	}
	if wait > 0 {
		if slept := limits.sleep(b.call.r.Context(), wait); slept != nil {
			return n, slept
		}
	}
	return n, err
}

// keys says which data keys there are, and under which nothing should be kept any more.
func (c *call) keys() error {
	body, err := c.body()
	if err != nil {
		return err
	}
	if err := parseNothing(body); err != nil {
		return err
	}
	type key struct {
		ID        string    `json:"id"`
		State     string    `json:"state"`
		Created   time.Time `json:"created"`
		ResealDue bool      `json:"reseal_due"`
	}
	answer := struct {
		Keys      []key `json:"keys"`
		ResealDue bool  `json:"reseal_due"`
	}{Keys: []key{}}
	for _, k := range c.service.cfg.Vault.Keys() {
		due := k.State != "primary" && k.State != "destroyed"
		answer.Keys = append(answer.Keys, key{k.ID, k.State, k.Created, due})
		answer.ResealDue = answer.ResealDue || due
	}
	if len(answer.Keys) == 0 {
		return fmt.Errorf("listing keys: %w", ErrUnavailable) // not started yet: an empty list would say that nothing is due
	}
	return c.writeJSON(0, answer)
}

// census counts by the beginnings of values which data keys they need. The ids are not authenticated: a census is the
// caller's own bookkeeping.
func (c *call) census() error {
	body, err := c.body()
	if err != nil {
		return err
	}
	list, err := parseCensus(body)
	if err != nil {
		return err
	}
	known := map[string]bool{}
	for _, k := range c.service.cfg.Vault.Keys() {
		known[k.ID] = true
	}
	counts, foreign := map[string]int{}, 0
	for _, sealed := range list {
		if rest, ok := bytes.CutPrefix(sealed, []byte(streamMagic)); ok && len(rest) > 2 {
			sealed = rest[2:]
		}
		id := ""
		if len(sealed) >= headerLen && sealed[0] == version2 {
			id = hex.EncodeToString(sealed[1:headerLen])
		}
		if !known[id] {
			foreign++
			continue
		}
		counts[id]++
	}
	return c.writeJSON(len(list), map[string]any{"sealed": len(list), "foreign": foreign, "keys": counts})
}
