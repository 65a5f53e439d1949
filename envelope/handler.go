package envelope

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"mime"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/anteroom-proxy/anteroom/audit"
	"github.com/anteroom-proxy/anteroom/loopback"
)

// ServicePath is where the service answers; everything below it is its own.
const ServicePath = "/envelope-service"

const (
	pathSeal         = ServicePath + "/v1/seal"
	pathOpen         = ServicePath + "/v1/open"
	pathReseal       = ServicePath + "/v1/reseal"
	pathKeys         = ServicePath + "/v1/keys"
	pathCensus       = ServicePath + "/v1/census"
	pathStreamSeal   = ServicePath + "/v1/stream/seal"
	pathStreamOpen   = ServicePath + "/v1/stream/open"
	pathStreamReseal = ServicePath + "/v1/stream/reseal"
)

// Requests at once, which bounds memory: a batch holds its body several times, a stream a few chunks.
const (
	maxBatches = 8
	maxStreams = 64
)

// sealer is what a stream needs.
type sealer interface {
	Seal(ctx context.Context, label string, plaintext []byte) ([]byte, error)
	Open(ctx context.Context, label string, sealed []byte) ([]byte, error)
}

// Vault is what the service seals with; *Envelope is one.
type Vault interface {
	sealer
	Reseal(ctx context.Context, label string, sealed []byte) (out []byte, changed bool, err error)
	Keys() []KeyInfo
}

// ServiceConfig is what a Service needs. All fields but Ring, Limits and Logger are required.
type ServiceConfig struct {
	Vault   Vault
	Ring    string   // name of the vault's ring, for events
	Tenant  string   // part of every label: what one tenant's service sealed no other one's opens
	Hosts   []string // names by which callers reach the service, lower case
	Facts   func(*http.Request) loopback.Facts
	Callers loopback.Callers
	Limits  *Limits // nil: none
	Audit   audit.Recorder
	Logger  *slog.Logger // nil: discard
}

// Service answers [ServicePath]: envelope encryption for programs on this host.
//
// POST, JSON in and out, binary values in base64 with padding. A value is bound to the service's tenant and to the purpose
// and id that the caller names; it opens with the same three only.
//
//	v1/seal    {"items":[{"purpose","id","plaintext"}]}  → {"items":[{"sealed"}]}
//	v1/open    {"items":[{"purpose","id","sealed"}]}     → {"items":[{"plaintext"} or {"error":{"type","detail"}}]}
//	v1/reseal  {"items":[{"purpose","id","sealed"}]}     → {"items":[{"sealed","changed"} or {"error":…}]}
//	v1/keys    {}                                        → {"keys":[{"id","state","created","reseal_due"}],"reseal_due"}
//	v1/census  {"sealed":[…]}                            → {"sealed":n,"foreign":n,"keys":{"<id>":n}}
//
// At most 256 items and 8 MiB; a census takes 4096 values, of which the beginning (9 bytes, or the header of a stream) is
// enough. reseal_due stands at keys under which nothing should be kept any more: reseal what is, and the operator can
// destroy them.
//
// Streams are for files of any size: application/octet-stream in and out, in constant memory, in the format that stream.go
// writes down byte by byte.
//
//	v1/stream/seal?purpose=&id=              the content → the sealed stream
//	v1/stream/open?purpose=&id=              the sealed stream → the content
//	v1/stream/open?purpose=&id=&first=N      the header, then whole chunks from chunk N to the end → their content
//	v1/stream/open?purpose=&id=&first=N&more=1   the same, of chunks behind which the document goes on
//	v1/stream/reseal?purpose=&id=            the sealed stream → the same content sealed under a new document key
//	v1/stream/reseal?purpose=&id=&header=only    the header alone → a header under the newest data key
//
// The answer begins while the request is still being sent: read while you write. When something is wrong with a stream
// behind its first chunk, the answer has begun with 200. The connection is then broken off: without the last chunk of the
// chunked coding in HTTP/1.1 (RFC 9112 section 8), with RST_STREAM in HTTP/2 (RFC 9113 section 6.4). So it is an error in
// every client, and what came before is genuine and not the whole: use it only when the answer has ended well.
//
// One audit event for each request, before anything is given out; a stream that breaks later gets a second one. Items that do
// not open have an event of their own for each reason, with their number, the ring and the key of the last one. Nothing of
// what is sealed, no label and no id of a record stands in events, logs and errors.
type Service struct {
	cfg              ServiceConfig
	batches, streams chan struct{}
	strangers        loopback.Strangers
}

// NewService checks the configuration.
func NewService(cfg ServiceConfig) (*Service, error) {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	switch {
	case cfg.Vault == nil || cfg.Facts == nil || cfg.Audit == nil:
		return nil, errors.New("making the envelope service: Vault, Facts or Audit is missing")
	case cfg.Callers.None():
		return nil, errors.New("making the envelope service: nobody may call it")
	case len(cfg.Hosts) == 0:
		return nil, errors.New("making the envelope service: it has no host name")
	case cfg.Tenant == "" || len(cfg.Tenant) > maxID || strings.ContainsFunc(cfg.Tenant, notPurpose):
		return nil, fmt.Errorf("making the envelope service: the tenant is not 1 to %d of letters, digits and . _ : / @ + -", maxID)
	}
	if cfg.Limits == nil {
		cfg.Limits, _ = NewLimits(0, 0, nil) // no numbers that could be wrong
	}
	cfg.Hosts = slices.Clone(cfg.Hosts)
	return &Service{cfg: cfg, batches: make(chan struct{}, maxBatches), streams: make(chan struct{}, maxStreams)}, nil
}

// Handle answers what is the service's and hands the rest to next: other paths, and every request that did not come from
// this host. It panics with http.ErrAbortHandler to break a stream off.
func (s *Service) Handle(w http.ResponseWriter, r *http.Request, next http.Handler) {
	if !loopback.Owns(ServicePath, r.URL.Path) {
		next.ServeHTTP(w, r)
		return
	}
	facts := s.cfg.Facts(r)
	verdict, reason := loopback.Judge(facts, s.cfg.Hosts)
	if verdict == loopback.Elsewhere {
		next.ServeHTTP(w, r)
		return
	}
	c := &call{service: s, w: w, r: r, facts: facts}
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

// call is one request on its way.
type call struct {
	service *Service
	w       http.ResponseWriter
	r       *http.Request
	facts   loopback.Facts
	who     string                 // by which credential the caller came
	reason  string                 // overrides the reason of the error in the audit event
	key     atomic.Pointer[string] // the data key of what was opened last; a stream opens in a goroutine
}

// answer is the order of the checks: credential before anything that reads, shape before anything that works.
func (c *call) answer() (err error) {
	switch c.who, err = c.service.cfg.Callers.Check(c.facts, c.r.Header); {
	case errors.Is(err, loopback.ErrCredential):
		return errCredential
	case err != nil:
		c.service.cfg.Logger.Error("the envelope service cannot read its token file and refuses its callers", "error", err)
		return errNoToken
	}
	endpoints := map[string]func() error{
		pathSeal: c.seal, pathOpen: c.open, pathReseal: c.reseal, pathKeys: c.keys, pathCensus: c.census,
		pathStreamSeal: c.streamSeal, pathStreamOpen: c.streamOpen, pathStreamReseal: c.streamReseal,
	}
	path := c.r.URL.EscapedPath()
	endpoint, ok := endpoints[path]
	if !ok {
		return errNotFound
	}
	if c.r.Method != http.MethodPost {
		c.w.Header().Set("Allow", http.MethodPost)
		return errMethod
	}
	slots := c.service.batches
	if strings.HasPrefix(path, ServicePath+"/v1/stream/") {
		slots = c.service.streams
	}
	select {
	case slots <- struct{}{}:
		defer func() { <-slots }()
	default:
		return errBusy
	}
	return endpoint()
}

// body reads a bounded JSON body.
func (c *call) body() ([]byte, error) {
	media, params, err := mime.ParseMediaType(c.r.Header.Get("Content-Type"))
	charset, given := params["charset"]
	if err != nil || media != "application/json" || given && !strings.EqualFold(charset, "utf-8") || c.r.Header.Get("Content-Encoding") != "" {
		return nil, errContentType
	}
	told := c.r.ContentLength >= 0 && c.r.ContentLength <= maxBody
	if told { // what is above the limit is not even read
		if err := c.service.cfg.Limits.spend(c.r.ContentLength); err != nil {
			return nil, err
		}
	}
	_ = http.NewResponseController(c.w).SetReadDeadline(time.Now().Add(stall)) // a batch is small; a caller that stands still holds a place
	body, err := io.ReadAll(http.MaxBytesReader(c.w, c.r.Body, maxBody))
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		return nil, fmt.Errorf("%w: the body has more than %d bytes", errTooLarge, maxBody)
	case err != nil:
		return nil, fmt.Errorf("%w: %w", errSource, err)
	}
	if !told {
		if err := c.service.cfg.Limits.spend(int64(len(body))); err != nil {
			return nil, err
		}
	}
	c.service.cfg.Limits.counts.read(c.operation(), len(body))
	return body, nil
}

// items reads a batch; done clears it.
func (c *call) items(content string) (items []item, done func(), err error) {
	body, err := c.body()
	if err != nil {
		return nil, nil, err
	}
	items, err = parseItems(body, c.service.cfg.Tenant, content)
	clear(body)
	return items, func() { clearItems(items) }, err
}

func (c *call) seal() error {
	items, done, err := c.items("plaintext")
	if err != nil {
		return err
	}
	defer done()
	type one struct {
		Sealed []byte `json:"sealed"`
	}
	out := make([]one, len(items))
	for i, it := range items {
		if out[i].Sealed, err = c.service.cfg.Vault.Seal(c.r.Context(), it.subject.label(labelItem), it.content); err != nil {
			return fmt.Errorf("sealing item %d: %w", i, err)
		}
	}
	return c.writeJSON(len(out), map[string]any{"items": out})
}

// problem is the error of one item.
type problem struct {
	Type   string `json:"type"`
	Detail string `json:"detail"`
}

// problemOf is the error of an item; nil: the whole request has failed, because nothing is wrong with the item itself.
func problemOf(err error) *problem {
	if known := refusalFor(err); known.status < 500 {
		return &problem{"urn:anteroom:problem:" + known.kind, detailFor(err)}
	}
	return nil
}

func (c *call) open() error {
	items, done, err := c.items("sealed")
	if err != nil {
		return err
	}
	defer done()
	type one struct {
		Plaintext *[]byte  `json:"plaintext,omitempty"`
		Error     *problem `json:"error,omitempty"`
	}
	out := make([]one, len(items))
	defer func() {
		for _, o := range out {
			if o.Plaintext != nil {
				clear(*o.Plaintext)
			}
		}
	}()
	var no declined
	for i, it := range items {
		plain, err := c.service.cfg.Vault.Open(c.r.Context(), it.subject.label(labelItem), it.content)
		if err == nil {
			if plain == nil {
				plain = []byte{} // null is not an empty text
			}
			out[i].Plaintext = &plain
			continue
		}
		if out[i].Error = problemOf(err); out[i].Error == nil {
			return fmt.Errorf("opening item %d: %w", i, err)
		}
		no.add(err, it.content)
	}
	if err := c.recordDeclined(no); err != nil {
		return err
	}
	return c.writeJSON(len(out)-no.count(), map[string]any{"items": out})
}

func (c *call) reseal() error {
	items, done, err := c.items("sealed")
	if err != nil {
		return err
	}
	defer done()
	type one struct {
		Sealed  []byte   `json:"sealed,omitempty"`
		Changed *bool    `json:"changed,omitempty"`
		Error   *problem `json:"error,omitempty"`
	}
	out := make([]one, len(items))
	var no declined
	for i, it := range items {
		sealed, changed, err := c.service.cfg.Vault.Reseal(c.r.Context(), it.subject.label(labelItem), it.content)
		if err == nil {
			out[i].Sealed, out[i].Changed = sealed, &changed
			continue
		}
		if out[i].Error = problemOf(err); out[i].Error == nil {
			return fmt.Errorf("resealing item %d: %w", i, err)
		}
		no.add(err, it.content)
	}
	if err := c.recordDeclined(no); err != nil {
		return err
	}
	return c.writeJSON(len(out)-no.count(), map[string]any{"items": out})
}

// writeJSON records the request and answers it. What cannot be recorded is not given out. Count is of the items that were
// answered; that none was is recorded already.
func (c *call) writeJSON(count int, answer any) error {
	var buf bytes.Buffer
	if err := json.NewEncoder(&buf).Encode(answer); err != nil {
		return fmt.Errorf("writing answer: %w", err)
	}
	defer func() { clear(buf.Bytes()) }()
	if err := c.recordAllowed(count); err != nil {
		return err
	}
	c.w.Header().Set("Content-Type", "application/json")
	noStore(c.w.Header())
	_, _ = c.w.Write(buf.Bytes()) // the client may have gone; there is nobody to tell
	return nil
}

// refuse records the failure and answers it. A failure that cannot be recorded is answered 503 instead. Of a stranger's refusals
// only so many are recorded one by one; the others have no reference number.
func (c *call) refuse(err error) {
	ref, known := audit.NewRef(), refusalFor(err)
	single, recordErr := c.single()
	switch {
	case recordErr != nil:
	case single:
		recordErr = c.recordFailure(err, ref)
	default:
		ref = ""
		c.service.cfg.Limits.counts.count(c.operation(), "denied", known.reason, 1)
	}
	if recordErr != nil {
		err, known = recordErr, refusalFor(recordErr)
	}
	writeProblem(c.w, known, detailFor(err), ref)
}

// single reports whether a refusal gets a record of its own, and writes down how many had none in the window before.
func (c *call) single() (record bool, err error) {
	if c.who != "" {
		return true, nil
	}
	record, ended := c.service.strangers.Refused(c.service.cfg.Limits.now())
	if ended == 0 {
		return record, nil
	}
	err = c.service.cfg.Audit.Record(context.WithoutCancel(c.r.Context()), audit.Event{
		Ref: audit.NewRef(), Kind: "envelope-service", Site: c.service.cfg.Hosts[0], Method: "other", Route: ServicePath + "/**", Decision: "denied", Reason: "flood", Count: ended,
	})
	if err != nil {
		return record, fmt.Errorf("recording: %w: %w", errAudit, err)
	}
	return record, nil
}

// recordFailure hands a failure to the audit log and to the operator's log.
func (c *call) recordFailure(err error, ref string) error {
	known := refusalFor(err)
	reason, decision, level := known.reason, "denied", slog.LevelDebug
	if c.reason != "" {
		reason = c.reason
	}
	switch {
	case known.status >= 500:
		decision, level = "failed", slog.LevelWarn
	case known.status == http.StatusNotFound || known.status == http.StatusUnauthorized: // what an operator looks for when a caller is set up
		level = slog.LevelInfo
	}
	attrs := []any{"reason", reason, "status", known.status, "ref", ref}
	if known.status >= 500 {
		attrs = append(attrs, "error", err)
	}
	c.service.cfg.Logger.Log(c.r.Context(), level, "envelope service refused a request", attrs...)
	c.service.cfg.Limits.counts.count(c.operation(), decision, reason, 1)
	return c.record(decision, reason, ref, 0)
}

// record hands one event to the audit log: fixed codes, never anything that the caller wrote.
func (c *call) record(decision, reason, ref string, count int) error {
	e := audit.Event{
		Ref: ref, Kind: "envelope-service", Site: c.service.cfg.Hosts[0], Method: "other", Route: c.route(), Decision: decision, Reason: reason,
		ClientID: c.who, Count: count,
	}
	if host, ok := loopback.Named(c.facts.Host, c.service.cfg.Hosts); ok {
		e.Site = host
	}
	if m := c.r.Method; m == http.MethodGet || m == http.MethodPost || m == http.MethodHead || m == http.MethodOptions {
		e.Method = m
	}
	if key := c.key.Load(); key != nil && decision != "allowed" {
		e.Rule = ruleOf(c.service.cfg.Ring, *key)
	}
	if c.facts.Remote.IsValid() {
		e.Client = c.facts.Remote.String()
	}
	// A caller that has gone does not take its event with it.
	if err := c.service.cfg.Audit.Record(context.WithoutCancel(c.r.Context()), e); err != nil {
		return fmt.Errorf("recording: %w: %w", errAudit, err)
	}
	return nil
}

// route names the endpoint; whatever else was asked for is not repeated.
func (c *call) route() string {
	switch p := c.r.URL.EscapedPath(); p {
	case pathSeal, pathOpen, pathReseal, pathKeys, pathCensus, pathStreamSeal, pathStreamOpen, pathStreamReseal:
		return p
	}
	return ServicePath + "/**"
}
