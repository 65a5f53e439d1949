package bearer

import (
	"net/http"
	"strings"
)

// Refusal is a request whose token is not honoured. Status, Scheme and Code are
// for the answer's WWW-Authenticate (RFC 6750, section 3; RFC 9449, section 7.1),
// Reason is for the audit log: one of this package's fixed codes, which hold no
// text from outside.
type Refusal struct {
	Status int
	Scheme string // "Bearer" or "DPoP": whose challenge carries Code
	Code   string // "invalid_request", "invalid_token" or "invalid_dpop_proof"
	Reason string // such as "token.aud"
}

// Error gives the reason.
func (r *Refusal) Error() string { return "access token refused (" + r.Reason + ")" }

// no is a refusal before the request's scheme is known to who refuses. It is a
// constant of ours.
type no string

func (n no) Error() string { return "access token refused (" + string(n) + ")" }

// with makes the answer of it. Which kind of wrong it is stands in its first word.
func (n no) with(scheme string) *Refusal {
	r := &Refusal{Status: http.StatusUnauthorized, Scheme: scheme, Code: "invalid_token", Reason: string(n)}
	switch kind, _, _ := strings.Cut(string(n), "."); kind {
	case "request":
		r.Status, r.Code = http.StatusBadRequest, "invalid_request"
	case "dpop":
		r.Code = "invalid_dpop_proof"
	}
	return r
}
