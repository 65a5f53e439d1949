package gate

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/anteroom-proxy/anteroom/session"
)

// Bearer checks the access tokens of a site (RFC 6750, RFC 9449, RFC 8705). It is asked in parallel.
type Bearer interface {
	// Check returns who presents a token, or nil when none was presented. A *BearerError refuses the request with a challenge; any
	// other error means that it cannot be known, and is answered as an outage.
	Check(r *http.Request) (*Caller, error)
	// Metadata is the document of RFC 9728 for the host, which is in lower case and has its port when that is not 443. nil: none.
	Metadata(host string) []byte
	// Challenge returns the values of WWW-Authenticate for a request without a token, one for each scheme.
	Challenge(host string) []string
}

// Caller is who presented a token. The Grant is named as a session's; Source and Subject are never empty.
type Caller struct {
	Grant    session.Grant
	ClientID string   // the application that holds the token
	Scopes   []string // what it was allowed
	Patient  string   // the patient in context (SMART App Launch); "": none
	Expires  time.Time
	Scheme   string   // "Bearer" or "DPoP"
	Token    [32]byte // a hash that names the token
}

// BearerError is why a token was refused.
type BearerError struct {
	Status int    // 400, 401 or 403
	Scheme string // of the challenge, "Bearer" or "DPoP"
	Code   string // the error code of RFC 6750 section 3.1 or RFC 9449 section 7.1
	Reason string // for the audit log: a fixed code
}

// Error returns the fixed code.
func (e *BearerError) Error() string { return "checking access token: " + e.Reason }

// reasonTokenEnd is the reason of what ends because a token expires.
const reasonTokenEnd = "token.exp"

// errTokenEnd is how a request in flight ends with its token.
var errTokenEnd = fmt.Errorf("the access token has expired: %w", session.ErrNone)

// checkToken judges an access token, if the request has one: then its cookies count for nothing, and reach nobody. The token itself
// is taken out in any case, whatever it is: an app behind a resource server is told who asks, and could use it elsewhere.
func (x *exchange) checkToken() refusal {
	caller, err := x.gate.bearer.Check(x.r)
	h := x.r.Header
	delete(h, "Authorization")
	delete(h, "Dpop")
	if err == nil && caller == nil {
		return refusal{}
	}
	delete(h, "Cookie")
	if no, ok := errors.AsType[*BearerError](err); ok {
		x.lack = &lack{token: no}
		return refusal{KindToken, tokenStatus(no.Status), no.Reason}
	}
	if err != nil {
		return refusal{KindUnavailable, http.StatusServiceUnavailable, "bearer"}
	}
	if caller.Grant.Source == "" || caller.Grant.Subject == "" {
		return refusal{KindUnavailable, http.StatusServiceUnavailable, "identity"}
	}
	if !caller.Expires.After(x.gate.now()) {
		return x.refuseExpired(caller)
	}
	// What a token is worth does not hang on the store, but an operator who wants nobody in without it means everybody. A proof
	// whose memory does not answer was refused above.
	if silence := x.gate.sessions.Silence(); silence > 0 {
		if !x.gate.storeLoss.tolerated(silence) {
			return refusal{KindUnavailable, http.StatusServiceUnavailable, "store-silent"}
		}
		x.degraded = true
	}
	x.caller = caller
	return refusal{}
}

// refuseExpired refuses a token that was good until now.
func (x *exchange) refuseExpired(caller *Caller) refusal {
	x.lack = &lack{token: &BearerError{Scheme: caller.Scheme, Code: "invalid_token"}}
	return refusal{KindToken, http.StatusUnauthorized, reasonTokenEnd}
}

// tokenStatus lets no refusal become anything else.
func tokenStatus(status int) int {
	switch status {
	case http.StatusBadRequest, http.StatusForbidden:
		return status
	}
	return http.StatusUnauthorized
}

// watchToken ends the flight when the token does.
func (x *exchange) watchToken() (stop func()) {
	timer := time.AfterFunc(x.caller.Expires.Sub(x.gate.now()), func() { x.cut(errTokenEnd) })
	return func() { timer.Stop() }
}

// metadataPath is where clients look for the document of RFC 9728 section 3.
const metadataPath = "/.well-known/oauth-protected-resource"

// answerMetadata tells everybody where tokens for this site are made. It is no secret, and an application in a browser may read it
// from another origin.
func (x *exchange) answerMetadata(w http.ResponseWriter) bool {
	if x.path.String() != metadataPath || x.r.Method != http.MethodGet && x.r.Method != http.MethodHead {
		return false
	}
	document := x.gate.bearer.Metadata(x.origin())
	if document == nil {
		return false
	}
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Content-Length", strconv.Itoa(len(document)))
	h.Set("Cache-Control", "public, max-age=300")
	h.Set("Access-Control-Allow-Origin", "*")
	h.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(http.StatusOK)
	if x.r.Method == http.MethodGet {
		_, _ = w.Write(document)
	}
	return true
}

// origin is the host with the port that a client writes.
func (x *exchange) origin() string { return strings.TrimSuffix(strings.ToLower(x.r.Host), ":443") }
