package hardening

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/anteroom-proxy/anteroom/audit"
	"github.com/anteroom-proxy/anteroom/loopback"
)

const (
	pathProtect = Path + "/v1/protect"
	pathVerify  = Path + "/v1/verify"
	pathUpgrade = Path + "/v1/upgrade"
	pathCensus  = Path + "/v1/census"
	pathStatus  = Path + "/v1/status"
)

// endpoint is one operation behind a credential. All are POST.
type endpoint struct {
	op    string // empty: there is none
	lines bool   // takes plain lines besides JSON
	do    func(*call, []byte) error
}

func endpointAt(path string) endpoint {
	switch path {
	case pathProtect:
		return endpoint{opProtect, true, (*call).protect}
	case pathVerify:
		return endpoint{opVerify, false, (*call).verify}
	case pathUpgrade:
		return endpoint{opUpgrade, true, (*call).upgrade}
	case pathCensus:
		return endpoint{opCensus, true, (*call).census}
	case pathStatus:
		return endpoint{opStatus, false, (*call).status}
	}
	return endpoint{}
}

// Handle answers what is the service's and hands the rest to next: other paths, and every request that did not come from
// this host. A request from this host with something wrong about its connection ends here with 404, so that a password in
// its query reaches no application, no log and no other proxy.
func (s *Service) Handle(w http.ResponseWriter, r *http.Request, next http.Handler) {
	if !Owns(r.URL.Path) {
		next.ServeHTTP(w, r)
		return
	}
	facts := s.cfg.Facts(r)
	verdict, reason := loopback.Judge(facts, s.cfg.Hosts)
	if verdict == loopback.Elsewhere {
		next.ServeHTTP(w, r)
		return
	}
	c := calls.Get().(*call)
	*c = call{service: s, w: w, r: r, facts: facts, op: opOther}
	defer c.forget()
	if verdict != loopback.Local {
		c.reason = reason
		c.refuse(errNotFound)
		return
	}
	if err := c.answer(); err != nil {
		c.refuse(err)
	}
}

// ServeHTTP is Handle with nothing behind it.
func (s *Service) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.Handle(w, r, http.NotFoundHandler())
}

// calls are between requests; nothing keeps one beyond its own.
var calls = sync.Pool{New: func() any { return new(call) }}

func (c *call) forget() {
	*c = call{}
	calls.Put(c)
}

// call is one request on its way.
type call struct {
	service *Service
	w       http.ResponseWriter
	r       *http.Request
	facts   loopback.Facts
	op      string
	lines   bool             // the body is plain lines, and so is the answer
	reason  string           // overrides the reason of the error in the audit event
	uid     []byte           // of a verification; a copy, because a refusal is recorded when the body is gone
	who     string           // the credential by which the caller came
	cheap   bool             // the success may share its event with others
	gone    bool             // the answer could not be written
	place   bool             // it holds one of the places for big bodies
	limit   io.LimitedReader // of a small body
	spent   spent
}

// answer is the order of the checks: credential before anything that reads, shape before anything that works.
func (c *call) answer() error {
	escaped := c.r.URL.EscapedPath()
	if escaped == Path && c.r.Method == http.MethodGet && c.service.cfg.MaxRounds > 0 {
		c.op = opOriginal
		return c.original() // the one form without a credential: a compatibility that the operator switched on
	}
	if err := c.credential(); err != nil {
		return err
	}
	at := endpointAt(escaped)
	switch {
	case at.op != "" && c.r.Method != http.MethodPost:
		c.w.Header().Set("Allow", http.MethodPost)
		return errMethod
	case escaped == Path && c.service.cfg.MaxRounds > 0:
		c.w.Header().Set("Allow", http.MethodGet)
		return errMethod
	case at.op == "":
		return errNotFound
	}
	c.op = at.op
	if err := c.media(at.lines); err != nil {
		return err
	}
	return c.withBody(at.do)
}

// credential wants one of the configured callers.
func (c *call) credential() (err error) {
	c.who, err = c.service.cfg.Callers.Check(c.facts, c.r.Header)
	switch {
	case errors.Is(err, loopback.ErrUnreadable):
		c.service.cfg.Logger.Error("the hmac service cannot read its token file and refuses its callers", "error", err)
		return errNoToken
	case err != nil:
		return errCredential
	}
	return nil
}

// stall is how long a caller may take to send a big body, and to take its answer.
const stall = 30 * time.Second

// cheapUnits is from where on a request costs more than its event.
const cheapUnits = 64

// media wants JSON in UTF-8, or, where that is allowed, plain lines.
func (c *call) media(lines bool) error {
	if c.r.Header.Get("Content-Encoding") != "" {
		return errContentType
	}
	given := c.r.Header.Get("Content-Type")
	if given == "application/json" { // the usual spelling needs no parser
		return nil
	}
	media, params, err := mime.ParseMediaType(given)
	charset, set := params["charset"]
	c.lines = media == "text/plain"
	if err != nil || media != "application/json" && !(lines && c.lines) || set && !strings.EqualFold(charset, "utf-8") {
		return errContentType
	}
	return nil
}

// buffers are for bodies and answers.
var buffers = sync.Pool{New: func() any { return new(bytes.Buffer) }}

// giveBody puts a buffer back without the secrets that were in it.
func giveBody(b *bytes.Buffer) {
	clear(b.Bytes())
	b.Reset()
	buffers.Put(b)
}

// giveAnswer puts back what was sent. After a failed write a server may still be reading it.
func (c *call) giveAnswer(b *bytes.Buffer) {
	if !c.gone {
		buffers.Put(b)
	}
}

// withBody reads a bounded body and clears it afterwards. Big ones wait for a place: memory holds only so many.
func (c *call) withBody(do func(*call, []byte) error) error {
	c.limit = io.LimitedReader{R: c.r.Body, N: smallBody + 1} // net/http gives no more than ContentLength
	from := io.Reader(&c.limit)
	if c.r.ContentLength < 0 || c.r.ContentLength > smallBody {
		ctx, cancel := context.WithTimeout(c.r.Context(), waitReady)
		defer cancel()
		if err := c.service.batches.take(ctx); err != nil {
			return err
		}
		defer c.service.batches.give()
		// A caller that stands still would hold its place for ever.
		c.place = true
		from = http.MaxBytesReader(c.w, c.r.Body, maxBody)
		control := http.NewResponseController(c.w)
		_ = control.SetReadDeadline(time.Now().Add(stall))
		defer func() { _ = control.SetWriteDeadline(time.Time{}) }() // the connection outlives the request
	}
	if c.r.ContentLength > maxBody {
		return fmt.Errorf("reading request: %w: the body has more than %d bytes", errTooLarge, maxBody)
	}
	b := buffers.Get().(*bytes.Buffer)
	defer giveBody(b)
	if c.r.ContentLength > 0 {
		b.Grow(int(c.r.ContentLength) + bytes.MinRead)
	}
	_, err := b.ReadFrom(from)
	if c.place && err == nil { // after an error the server must not wait for the rest either
		_ = http.NewResponseController(c.w).SetReadDeadline(time.Time{})
	}
	if err != nil || c.limit.N <= 0 {
		return bodyError(err)
	}
	return do(c, b.Bytes())
}

// bodyError says why a body could not be read.
func bodyError(err error) error {
	if tooLarge := (*http.MaxBytesError)(nil); err == nil || errors.As(err, &tooLarge) {
		return fmt.Errorf("reading request: %w: the body has more than %d bytes", errTooLarge, maxBody)
	}
	return fmt.Errorf("reading request: %w: the body ended early", ErrInput)
}

func (c *call) original() error {
	password, rounds, err := parseOriginal(c.r.URL.RawQuery, c.service.cfg.MaxRounds)
	if err != nil {
		return err
	}
	digest, err := c.service.Original(c.r.Context(), password, rounds)
	clear(password)
	if err != nil {
		return err
	}
	c.spent.units, c.cheap = rounds, rounds < cheapUnits
	return c.write("text/plain; charset=utf-8", []byte(digest))
}

// write records a success and answers it: no record, no answer.
func (c *call) write(kind string, answer []byte) error {
	var err error
	switch {
	case c.op == opStatus: // says nothing that is anybody's
	case c.cheap:
		err = c.recordCheap()
	default:
		err = c.record("allowed", "", "")
	}
	if err != nil {
		return err
	}
	return c.send(kind, answer)
}

func (c *call) send(kind string, answer []byte) error {
	outcome := "allowed"
	if c.reason != "" {
		outcome = "denied"
	}
	c.service.cfg.Limits.counts.count(c.op, outcome, c.reason)
	answerHeaders(c.w.Header(), kind, len(answer))
	if c.place {
		_ = http.NewResponseController(c.w).SetWriteDeadline(time.Now().Add(stall))
	}
	if _, err := c.w.Write(answer); err != nil {
		c.gone = true
		c.service.cfg.Logger.Debug("a caller of the hmac service went away", "error", err)
	}
	return nil
}

// writtenAtOnce is an answer whose length net/http says by itself, without a text of it on the heap.
const writtenAtOnce = 1 << 10

// answerHeaders sets the headers of a success: in one piece of memory, and none of it shared with other requests, since
// whatever stands around this handler may change what is in them.
func answerHeaders(h http.Header, kind string, size int) {
	values := [...]string{kind, "no-store", "nosniff", ""}
	h["Content-Type"], h["Cache-Control"], h["X-Content-Type-Options"] = values[0:1:1], values[1:2:2], values[2:3:3]
	if size > writtenAtOnce {
		values[3] = strconv.Itoa(size)
		h["Content-Length"] = values[3:4:4]
	}
}

// refuse records the failure and answers it. A failure that cannot be recorded is answered 503 instead. Of a stranger's refusals
// only so many are recorded one by one; the others have no reference number.
func (c *call) refuse(err error) {
	ref, known := audit.NewRef(), refusalFor(err)
	reason := known.reason
	if c.reason != "" {
		reason = c.reason
	}
	decision := "denied"
	if known.status >= 500 {
		decision = "failed"
	}
	c.service.cfg.Limits.counts.count(c.op, decision, reason)
	single, recordErr := c.single()
	if single && recordErr == nil {
		recordErr = c.record(decision, reason, ref)
	}
	switch {
	case recordErr != nil:
		err, known = recordErr, refusalFor(recordErr)
	case !single:
		writeProblem(c.w, known, detailFor(err), "")
		return
	}
	level := slog.LevelDebug
	if errors.Is(err, errNotFound) || errors.Is(err, errCredential) { // what an operator looks for when a caller is set up
		level = slog.LevelInfo
	}
	c.service.cfg.Logger.Log(c.r.Context(), level, "hmac service refused a request", "reason", reason, "status", known.status, "ref", ref)
	writeProblem(c.w, known, detailFor(err), ref)
}

// single reports whether a refusal gets a record of its own, and writes down how many had none in the window before.
func (c *call) single() (bool, error) {
	if c.who != "" {
		return true, nil
	}
	record, ended := c.service.strangers.Refused(c.service.cfg.Now())
	if ended == 0 {
		return record, nil
	}
	e := audit.Event{
		Ref: audit.NewRef(), Kind: "hmac-service", Site: c.service.cfg.Hosts[0], Method: "other", Route: Path + "/**", Decision: "denied", Reason: "flood", Count: ended,
	}
	if err := c.service.cfg.Audit.Record(context.WithoutCancel(c.r.Context()), e); err != nil {
		return record, fmt.Errorf("recording event: %w: %w", errAudit, err)
	}
	return record, nil
}

// record hands one event to the audit log: fixed codes, the keyed hash of a uid, never anything that the caller wrote. Rule
// names the peppers, Count the units, ClientID the credential. A caller that has gone does not take its event with it.
func (c *call) record(decision, reason, ref string) error {
	if err := c.service.cfg.Audit.Record(context.WithoutCancel(c.r.Context()), c.event(decision, reason, ref)); err != nil {
		return fmt.Errorf("recording event: %w: %w", errAudit, err)
	}
	return nil
}

func (c *call) event(decision, reason, ref string) audit.Event {
	e := audit.Event{
		Ref: ref, Kind: "hmac-service", Site: c.site(), Method: "other", Route: c.route(), Decision: decision, Reason: reason,
		ClientID: c.who, Rule: c.spent.versions, Count: c.spent.units,
	}
	if m := c.r.Method; m == http.MethodGet || m == http.MethodPost || m == http.MethodHead || m == http.MethodOptions {
		e.Method = m
	}
	if c.facts.Remote.IsValid() {
		e.Client = c.facts.Remote.String()
	}
	if open := c.service.cfg.Ring.held(); open != nil && len(c.uid) > 0 {
		e.Subject = open.uidKey(c.uid).String()
	}
	return e
}

// site is the host that was asked for when it is one of ours, the first of ours otherwise.
func (c *call) site() string {
	if host, ok := loopback.Named(c.facts.Host, c.service.cfg.Hosts); ok {
		return host
	}
	return c.service.cfg.Hosts[0]
}

// route names the endpoint; whatever else was asked for is not repeated.
func (c *call) route() string {
	p := c.r.URL.EscapedPath()
	if p == Path || endpointAt(p).op != "" {
		return p
	}
	return Path + "/**"
}
