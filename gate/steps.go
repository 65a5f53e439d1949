package gate

import (
	"errors"
	"net/http"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/anteroom-proxy/anteroom/audit"
	"github.com/anteroom-proxy/anteroom/emergency"
	"github.com/anteroom-proxy/anteroom/policy"
	"github.com/anteroom-proxy/anteroom/session"
)

// who finds the session and takes our cookies out of what the app will see. Whatever is no session is the same to everybody
// outside; whatever cannot be known is no access.
func (x *exchange) who() refusal {
	if x.gate.bearer != nil {
		if no := x.checkToken(); no.kind != "" || x.caller != nil {
			return no
		}
	}
	x.cookies = x.r.Header["Cookie"]
	s, err := x.gate.sessions.Find(x.cookies, x.r.Host)
	session.StripCookies(x.r.Header)
	switch {
	case err == nil && s != nil:
		x.session = s
	case errors.Is(err, session.ErrNone):
	case errors.Is(err, session.ErrStale):
		if s != nil && x.gate.storeLoss.tolerated(x.gate.sessions.Silence()) {
			x.session, x.degraded = s, true
			return refusal{}
		}
		return refusal{KindUnavailable, http.StatusServiceUnavailable, "store-silent"}
	default:
		return refusal{KindUnavailable, http.StatusServiceUnavailable, "session"}
	}
	return refusal{}
}

// record writes down that the request is let through, before it is. What is public to everybody needs no record as long as
// nobody is named.
func (x *exchange) record() refusal {
	if x.gate.unaudited {
		return refusal{}
	}
	if x.public && x.grant() == nil && !x.recordsShadow() {
		return refusal{}
	}
	if err := x.gate.audit.Record(x.r.Context(), x.event(audit.NewRef(), "allowed", x.reason)); err != nil {
		return refusal{KindUnavailable, http.StatusServiceUnavailable, reasonAudit}
	}
	return refusal{}
}

// recordsShadow reports whether what is public is recorded all the same: a shadow rule would have decided otherwise, which is what
// it was written for. Strangers fill no disk by it (flood.go).
func (x *exchange) recordsShadow() bool {
	if x.shadow == nil {
		return false
	}
	record, _ := x.gate.shadowed.refused(x.clientAddr())
	return record
}

// reasonAudit is the one refusal that cannot be recorded.
const reasonAudit = "audit"

// event describes the request for the audit log: nothing in it is free text of a stranger.
func (x *exchange) event(ref, decision, reason string) audit.Event {
	e := audit.Event{
		Ref: ref, Kind: "request", Site: x.site, Route: x.route, Decision: decision, Rule: x.rule, Reason: reason,
		Client: x.clientAddr(),
	}
	if x.degraded {
		e.Degraded = degradedStoreLoss
	}
	if policy.ValidMethod(x.r.Method) {
		e.Method = x.r.Method
	}
	if g := x.grant(); g != nil {
		e.Source, e.Subject, e.Name, e.Roles, e.ACR, e.AMR = g.Source, g.Subject, g.Username, g.Roles, g.ACR, g.AMR
	}
	if x.path.String() != "" {
		e.Path = x.gate.policy.Shape(policy.Request{Method: x.r.Method, Path: x.path, Who: x.subject(), Host: x.site})
	}
	if decision == "denied" && x.lack != nil { // the end of a flight is recorded beside what answers it, and has no look at it
		e.Missing = missingText(x.lack.missing)
	}
	if x.shadow != nil {
		e.Shadow = *x.shadow
	}
	if a := x.glass(); a != nil {
		e.Emergency, e.Purpose, e.Drill = a.ID, emergency.Purpose, a.Drill
	}
	if x.session != nil {
		e.Session = audit.SessionLabel(x.session.ID)
	}
	if x.caller != nil {
		e.ClientID, e.Scopes = x.caller.ClientID, x.caller.Scopes
	}
	return e
}

// clientAddr is asked once: later the app may be changing what it is read from.
func (x *exchange) clientAddr() string {
	if x.client == "" {
		x.client = x.gate.clientAddr(x.r)
	}
	return x.client
}

// tell sets the identity headers. A header without a value stays absent: strip deleted what the client sent. The keys are
// canonical and written directly, the values plain UTF-8 of one meaning.
func (x *exchange) tell() refusal {
	g := x.grant()
	if g == nil {
		return refusal{}
	}
	for _, role := range g.Roles {
		if !policy.ValidRole(role) { // a comma in it would make two roles of one
			return refusal{KindUnavailable, http.StatusServiceUnavailable, "identity"}
		}
	}
	assertion, err := x.assertion()
	switch {
	case errors.Is(err, session.ErrNone) && x.caller != nil:
		return x.refuseExpired(x.caller)
	case errors.Is(err, session.ErrNone): // it ended this moment
		return refusal{KindNoSession, http.StatusUnauthorized, session.Reason(err)}
	case err != nil: // an app that trusts nothing else must not see a person as nobody
		return refusal{KindUnavailable, http.StatusServiceUnavailable, "assertion"}
	}
	values := [...]string{g.Username, strings.Join(g.Roles, ","), g.Name, g.Email, assertion}
	x.subject()
	room := x.named.values[:]
	for i, value := range values {
		if value == "" {
			continue
		}
		if i < len(values)-1 && !isClean(value) { // the last one is our own base64url and two dots
			return refusal{KindUnavailable, http.StatusServiceUnavailable, "identity"}
		}
		room[i] = value
		x.r.Header[identityHeaders[i]] = room[i : i+1 : i+1]
	}
	return x.tellGlass()
}

var identityHeaders = [...]string{"Remote-User", "Remote-Groups", "Remote-Name", "Remote-Email", "Anteroom-Assertion"}

// longestAudience is the greatest length of an audience.
const longestAudience = 255

// assertion is the signed form of the same, for an app that checks it against our published keys.
func (x *exchange) assertion() (string, error) {
	if x.gate.noAssertion {
		return "", nil
	}
	audience := x.gate.audience
	if audience == "" {
		audience = x.site
	}
	token, err := "", error(nil)
	if c := x.caller; c != nil {
		token, err = x.gate.sessions.AssertCaller(session.Caller{
			Grant: c.Grant, ClientID: c.ClientID, Scopes: c.Scopes, Patient: c.Patient, Expires: c.Expires, Token: c.Token,
		}, x.r.Host, audience)
	} else {
		token, err = x.gate.sessions.Assertion(x.session, audience)
	}
	if err == nil && token == "" {
		err = errors.New("empty assertion")
	}
	return token, err
}

// isClean reports whether a value arrives as it was sent: no control characters, valid UTF-8, and no blanks at its ends, which an
// app's server cuts off, so that " admin" would be "admin" there (RFC 9110 section 5.5).
func isClean(value string) bool {
	ascii := true
	for i := range len(value) {
		c := value[i]
		if c < 0x20 || c == 0x7f {
			return false
		}
		ascii = ascii && c < utf8.RuneSelf
	}
	if value[0] == ' ' || value[len(value)-1] == ' ' {
		return false
	}
	return ascii || utf8.ValidString(value) && !strings.ContainsFunc(value, unicode.IsControl) && strings.TrimSpace(value) == value
}
