package hardening

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"mime"
	"net/http"
	"strings"

	"github.com/anteroom-proxy/anteroom/audit"
	"github.com/anteroom-proxy/anteroom/loopback"
)

const (
	pathProtect = Path + "/v1/protect"
	pathVerify  = Path + "/v1/verify"
)

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
	reason  string // overrides the reason of the error in the audit event
	uid     string // of a verification
	who     string // the credential by which the caller came
}

// answer is the order of the checks: credential before anything that reads, shape before anything that works.
func (c *call) answer() error {
	escaped := c.r.URL.EscapedPath()
	if escaped == Path && c.r.Method == http.MethodGet && c.service.cfg.MaxRounds > 0 {
		return c.original() // the one form without a credential: a compatibility that the operator switched on
	}
	if err := c.credential(); err != nil {
		return err
	}
	switch escaped {
	case pathProtect, pathVerify:
		if c.r.Method != http.MethodPost {
			c.w.Header().Set("Allow", http.MethodPost)
			return errMethod
		}
	case Path:
		if c.service.cfg.MaxRounds > 0 {
			c.w.Header().Set("Allow", http.MethodGet)
			return errMethod
		}
		return errNotFound
	default:
		return errNotFound
	}
	body, err := c.body()
	if err != nil {
		return err
	}
	defer clear(body)
	if escaped == pathProtect {
		return c.protect(body)
	}
	return c.verify(body)
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

// body reads a bounded JSON body.
func (c *call) body() ([]byte, error) {
	media, params, err := mime.ParseMediaType(c.r.Header.Get("Content-Type"))
	charset, given := params["charset"]
	if err != nil || media != "application/json" || given && !strings.EqualFold(charset, "utf-8") || c.r.Header.Get("Content-Encoding") != "" {
		return nil, errContentType
	}
	body, err := io.ReadAll(http.MaxBytesReader(c.w, c.r.Body, maxBody))
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		return nil, fmt.Errorf("reading request: %w: the body has more than %d bytes", errTooLarge, maxBody)
	case err != nil:
		return nil, fmt.Errorf("reading request: %w: the body ended early", ErrInput)
	}
	return body, nil
}

func (c *call) protect(body []byte) error {
	items, err := parseProtect(body)
	if err != nil {
		return err
	}
	records, err := c.service.Protect(c.r.Context(), items)
	if err != nil {
		return err
	}
	type one struct {
		Record string `json:"record"`
	}
	answer := struct {
		Items []one `json:"items"`
	}{make([]one, len(records))}
	for i, r := range records {
		answer.Items[i].Record = r
	}
	return c.writeJSON(answer)
}

func (c *call) verify(body []byte) error {
	v, err := parseVerify(body)
	if err != nil {
		return err
	}
	c.uid = v.UID
	result, err := c.service.Verify(c.r.Context(), v)
	if err != nil {
		return err
	}
	if !result.Match {
		if err := c.record("denied", "mismatch", audit.NewRef()); err != nil {
			return err
		}
	}
	answer := struct {
		Match       bool    `json:"match"`
		NeedsRehash bool    `json:"needs_rehash"`
		Record      *string `json:"record"`
	}{result.Match, result.NeedsRehash, nil}
	if result.NeedsRehash {
		answer.Record = &result.Record
	}
	return c.writeJSON(answer)
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
	c.w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	noStore(c.w.Header())
	io.WriteString(c.w, digest)
	return nil
}

func (c *call) writeJSON(answer any) error {
	var buf bytes.Buffer
	if err := json.NewEncoder(&buf).Encode(answer); err != nil {
		return fmt.Errorf("writing answer: %w", err)
	}
	c.w.Header().Set("Content-Type", "application/json")
	noStore(c.w.Header())
	c.w.Write(buf.Bytes())
	return nil
}

// refuse records the failure and answers it. A failure that cannot be recorded is answered 503 instead.
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
	if recordErr := c.record(decision, reason, ref); recordErr != nil {
		err, known = recordErr, refusalFor(recordErr)
	}
	level := slog.LevelDebug
	if errors.Is(err, errNotFound) || errors.Is(err, errCredential) { // what an operator looks for when a caller is set up
		level = slog.LevelInfo
	}
	c.service.cfg.Logger.Log(c.r.Context(), level, "hmac service refused a request", "reason", reason, "status", known.status, "ref", ref)
	writeProblem(c.w, known, detailFor(err), ref)
}

// record hands one failure to the audit log: fixed codes, the keyed hash of a uid, never anything that the caller wrote.
func (c *call) record(decision, reason, ref string) error {
	e := audit.Event{
		Ref: ref, Kind: "hmac-service", Site: c.service.cfg.Hosts[0], Method: "other", Route: c.route(), Decision: decision, Reason: reason,
	}
	if host, ok := loopback.Named(c.facts.Host, c.service.cfg.Hosts); ok {
		e.Site = host
	}
	if m := c.r.Method; m == http.MethodGet || m == http.MethodPost || m == http.MethodHead || m == http.MethodOptions {
		e.Method = m
	}
	if c.facts.Remote.IsValid() {
		e.Client = c.facts.Remote.String()
	}
	if open := c.service.cfg.Ring.held(); open != nil && c.uid != "" {
		e.Subject = open.uidKey(c.uid).String()
	}
	if err := c.service.cfg.Audit.Record(c.r.Context(), e); err != nil {
		return fmt.Errorf("recording failure: %w: %w", errAudit, err)
	}
	return nil
}

// route names the endpoint; whatever else was asked for is not repeated.
func (c *call) route() string {
	switch p := c.r.URL.EscapedPath(); p {
	case Path, pathProtect, pathVerify:
		return p
	}
	return Path + "/**"
}
