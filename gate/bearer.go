package gate

import (
	"net/http"
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
