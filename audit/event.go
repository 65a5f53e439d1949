package audit

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
)

// Event is what the caller knows; the log adds the time, the sequence number and the
// link to the record before. Empty fields are left out of the record.
//
// Never put a secret, a token, a cookie, a query string or text that a stranger wrote
// freely into an event. Every field is cut at a fixed length and escaped, so that a
// hostile name or host can neither forge a record nor fill the disk with one.
type Event struct {
	// Ref is the reference number that the person sees on the page; see NewRef.
	Ref string
	// Kind is "request", "stream" (a request that ended with its session), "sign-in",
	// "hand-off" (a sign-in at the one portal opened this site), "sign-out", "admin" (an
	// operator's command), "emergency" (somebody broke the glass, or it closed again),
	// "review" (such an event was accepted or rejected), "budget" (somebody came to a limit
	// of a view budget), "hmac-service" or "envelope-service". It is required. "log" is the log's own.
	Kind string
	// Source, Subject and Name say who: the identity source's name, the subject there,
	// and the username. All empty: nobody was signed in.
	Source, Subject, Name string
	// Roles are the roles of that moment; at most 64 are written.
	Roles []string
	// ACR and AMR are the level and the methods of the sign-in; at most 8 methods are written.
	ACR string
	AMR []string
	// Session is the label of the session, made by SessionLabel; never the id itself.
	Session string
	// Site is the host, Method the request's method, Route the pattern of the rule that
	// matched (never a raw path where the pattern has variables).
	Site, Method, Route string
	// Path is the shape of the path, as policy.Shape makes it: segments that stand in a rule,
	// and a mark for every other one. Never the path itself: it names patients.
	Path string
	// Decision is "allowed", "denied", "failed" or "ended"; Rule is the line that decided, and
	// Reason a fixed code.
	Decision, Rule, Reason string
	// Missing is what a denied request would have needed, as fixed codes: "role", "hours".
	Missing string
	// Shadow is what the shadow rules would have decided, where that is something else:
	// "would deny: " and the line.
	Shadow string
	// Emergency is the id of the emergency access under which the request was let through,
	// and Purpose then "ETREAT" (HL7 v3 PurposeOfUse: emergency treatment).
	Emergency, Purpose string
	// Drill marks all that happens in an emergency access that was begun for practice.
	Drill bool
	// Patient is whose record an emergency access is for, in the event of its beginning: the
	// review list forgets it, and somebody may ask years later. Elsewhere it is empty.
	Patient string
	// Degraded says what was missing when the decision fell: "store-loss", when nobody could
	// say whether the session had been revoked lately; "fresh-sign-in", when an emergency
	// access began without the one that its rule asks for, as the provider did not answer.
	// Empty: nothing.
	Degraded string
	// Client is the address that the request came from.
	Client string
	// ClientID is the application that presented an access token, and Scopes what that
	// token allows; at most 32 are written. Empty: no token came. Of a local service's caller
	// it is the credential: "token", "uid:33", "gid:33" or "certificate:" and 16 hex digits.
	ClientID string
	Scopes   []string
	// Count is set when the record stands for that many events of one kind which got no
	// record of their own; 0 means 1.
	Count int
}

// Recorder takes events. A nil error means that the event was taken, and only then may
// the caller let the request go on: no record, no access.
type Recorder interface {
	Record(ctx context.Context, e Event) error
}

// Off returns a Recorder that takes every event and keeps none. It is for the explicit
// `audit off` of a configuration, never a fallback.
func Off() Recorder { return off{} }

type off struct{}

func (off) Record(context.Context, Event) error { return nil }

// refAlphabet is Crockford's base 32: no I, L, O and U, so that a number read out over
// the telephone is understood. Its 32 letters take five random bits each.
const refAlphabet = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"

// NewRef returns a reference number of ten characters, 50 random bits. It is shown to
// people and finds their event in the log; it is a name, not a secret.
func NewRef() string {
	var b [10]byte
	_, _ = rand.Read(b[:]) // never fails: crypto/rand ends the process instead
	for i := range b {
		b[i] = refAlphabet[b[i]&31]
	}
	return string(b[:])
}

// SessionLabel returns a short label of a session id: 16 characters of a hash, enough
// to find all events of one session. The id cannot be computed back from it as long as
// it is random; the label of the empty id is empty.
func SessionLabel(sid string) string {
	if sid == "" {
		return ""
	}
	h := sha256.New()
	_, _ = h.Write([]byte(labelSession + "\x00"))
	_, _ = h.Write([]byte(sid))
	var sum [sha256.Size]byte
	return base64.RawURLEncoding.EncodeToString(h.Sum(sum[:0])[:12])
}
