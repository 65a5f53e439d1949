package gate

import (
	"crypto/tls"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"time"

	"github.com/anteroom-proxy/anteroom/audit"
	"github.com/anteroom-proxy/anteroom/policy"
	"github.com/anteroom-proxy/anteroom/session"
)

// Kind is what a refusal is about: the last part of its problem type, urn:anteroom:problem:<kind>.
type Kind string

// The kinds of a refusal. The zero Kind refuses nothing.
const (
	KindNoSession     Kind = "no-session"
	KindForbidden     Kind = "forbidden"
	KindStepUp        Kind = "step-up" // signed in, and a stronger or newer sign-in is asked for
	KindToken         Kind = "token"   // an access token that is not accepted
	KindAmbiguousPath Kind = "ambiguous-path"
	KindMethod        Kind = "method"
	KindCrossOrigin   Kind = "cross-origin"
	KindBudget        Kind = "budget" // more different records than this account may open in that time
	KindUnavailable   Kind = "unavailable"
	KindMisdirected   Kind = "misdirected"
)

// Outcome is a refusal as the page for a person needs it.
type Outcome struct {
	Kind    Kind
	Status  int
	Reason  string           // the fixed code of the audit log
	Session *session.Session // who is refused; nil: nobody is signed in
	Ref     string           // the reference number that stands in the audit log
	Missing policy.Missing   // for KindForbidden: what the nearest line lacks
	// Emergency is what this person may open by breaking the glass; nil: nothing. Whoever shows a form for it asks Gate.Emergency
	// again when it comes back.
	Emergency *policy.Emergency
}

// details are the sentences for programs. They tell nothing about the site.
var details = map[Kind]string{
	KindNoSession:     "Sign in first: no valid session came with this request.",
	KindForbidden:     "No rule allows this request to the one who sent it.",
	KindStepUp:        "Sign in again: this request needs a stronger or more recent sign-in.",
	KindToken:         "The access token was not accepted.",
	KindAmbiguousPath: "The path can be read in more than one way.",
	KindMethod:        "This method is not allowed here.",
	KindCrossOrigin:   "The request was sent by a page of another origin.",
	KindBudget:        "Too many different records were opened with this account in a short time.",
	KindUnavailable:   "The request cannot be answered at the moment.",
	KindMisdirected:   "The request came over a connection that is not meant for it.",
}

const allowedMethods = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"

// longestReturn is the greatest length of an address to return to; the portal takes no longer one.
const longestReturn = 1024

// refuse records the refusal and answers it; a preflight is only answered. A refusal that cannot be recorded is answered as an outage.
func (x *exchange) refuse(no refusal) {
	if x.answersPreflight(no) {
		return
	}
	ref, err := x.recordRefusal(no)
	if err != nil {
		no = refusal{KindUnavailable, http.StatusServiceUnavailable, reasonAudit}
	}
	x.say(no, ref)
}

// say answers a refusal that was recorded. It is the one place where a refusal becomes HTTP.
func (x *exchange) say(no refusal, ref string) {
	w, r, how := x.answer.ResponseWriter, x.r, x.formOf(no)
	if how == formWebSocket {
		if x.closeSocket(no) {
			return
		}
		how = formProblem
	}
	h := w.Header()
	h.Set("Cache-Control", "no-store")
	x.letRead(h)
	switch no.kind {
	case KindMethod:
		h.Set("Allow", allowedMethods) // RFC 9110 section 15.5.6
	case KindUnavailable:
		h.Set("Retry-After", "1")
	}
	if how != formPage {
		x.challenge(no)
	}
	switch {
	case how == formGRPC:
		x.tellGRPC(no, ref)
	case how == formProblem:
		WriteProblem(w, no.status, string(no.kind), details[no.kind], ref)
	case no.kind == KindNoSession || no.kind == KindStepUp:
		x.toLogin()
	default:
		x.gate.deny(w, r, x.outcome(no, ref))
	}
}

// outcome is what a page is made of.
func (x *exchange) outcome(no refusal, ref string) Outcome {
	o := Outcome{Kind: no.kind, Status: no.status, Reason: no.reason, Session: x.session, Ref: ref}
	if x.lack != nil && no.kind == KindForbidden {
		o.Missing, o.Emergency = x.lack.missing, x.lack.emergency
	}
	return o
}

// recordRefusal writes the refusal down and returns its reference number; none when it is only counted (flood.go).
func (x *exchange) recordRefusal(no refusal) (ref string, err error) {
	g := x.gate
	if g.audit == nil {
		return "", audit.ErrUnavailable
	}
	if x.grant() == nil {
		record, ended := g.strangers.refused(g.clientAddr(x.r))
		for _, s := range ended {
			e := audit.Event{Ref: audit.NewRef(), Kind: "request", Decision: "denied", Reason: reasonFlood, Count: s.count}
			if s.addr.IsValid() {
				e.Client = s.addr.String()
			}
			err = errors.Join(err, g.audit.Record(x.r.Context(), e))
		}
		if !record || err != nil {
			return "", err
		}
	}
	if g.unaudited {
		return audit.NewRef(), nil
	}
	decision := "denied"
	if no.kind == KindUnavailable {
		decision = "failed"
	}
	ref = audit.NewRef()
	return ref, g.audit.Record(x.r.Context(), x.event(ref, decision, no.reason))
}

// toLogin sends a page to the sign-in, again where a stronger or newer one is asked for. A safe request returns to itself
// afterwards. A form that came too late does not: its body is not kept and never sent again, so that the way leads to the start
// page, by 303, which makes a GET of it.
func (x *exchange) toLogin() {
	status, to := http.StatusSeeOther, "/"
	if x.r.Method == http.MethodGet || x.r.Method == http.MethodHead {
		status = http.StatusFound
		if len(x.r.RequestURI) <= longestReturn {
			to = x.r.RequestURI
		}
	}
	w := x.answer.ResponseWriter
	w.Header().Set("Location", x.loginURL("return_to="+url.QueryEscape(to)))
	w.Header().Set("Content-Length", "0")
	w.WriteHeader(status)
}

// WriteProblem answers with application/problem+json (RFC 9457) of the type urn:anteroom:problem:<kind>. ref is left out when it
// is empty.
func WriteProblem(w http.ResponseWriter, status int, kind, detail, ref string) {
	body, err := json.Marshal(struct {
		Type   string `json:"type"`
		Title  string `json:"title"`
		Status int    `json:"status"`
		Detail string `json:"detail,omitempty"`
		Ref    string `json:"ref,omitempty"`
	}{"urn:anteroom:problem:" + kind, http.StatusText(status), status, detail, ref})
	if err != nil { // cannot be: strings and a number
		body = nil
	}
	h := w.Header()
	h.Set("Content-Type", "application/problem+json")
	h.Set("Content-Length", strconv.Itoa(len(body)))
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	_, _ = w.Write(body)
}

// denyInText is the page of a gate that was given none.
func denyInText(w http.ResponseWriter, _ *http.Request, o Outcome) {
	w.Header().Set("X-Content-Type-Options", "nosniff")
	http.Error(w, details[o.Kind]+" Reference: "+o.Ref, o.Status)
}

// rareLog warns about requests over a wrong transport, which a config that loaded cannot let happen, at most once a minute: the
// first one is the news, and strangers must not fill a log.
type rareLog struct {
	log  *slog.Logger
	now  func() time.Time
	mu   sync.Mutex
	last time.Time
	more int
}

func (l *rareLog) warn(state *tls.ConnectionState) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.now()
	if !l.last.IsZero() && now.Sub(l.last) < time.Minute {
		l.more++
		return
	}
	version := "none"
	if state != nil {
		version = tls.VersionName(state.Version)
	}
	l.log.Warn("a request reached the gate without TLS 1.3 and was answered 421; look for a listener or proxy before Anteroom",
		"tls", version, "not_logged_before", l.more)
	l.last, l.more = now, 0
}
