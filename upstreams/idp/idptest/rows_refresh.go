package idptest

import (
	"net/http"
	"time"
)

// RefreshRow is a line about a client that asks again with its refresh token
// (OpenID Connect Core 1.0, section 12), after a good sign-in. The faults come in
// between.
type RefreshRow struct {
	ID, Module string
	Faults     []Fault
	Disabled   bool // the account, at the provider
	Ended      bool // the provider's session
	Gone       bool // the session ends for good
	Silent     bool // nothing is known: the client may wait
}

// RefreshRows are the modules of the refresh token plan, and what else
// requirement 39 names. After a Gone one nothing is asked any more.
func RefreshRows() []RefreshRow {
	in := func(d time.Duration) Fault {
		return Claims(func(c map[string]any) { c["auth_time"] = seconds(c["auth_time"]) + int64(d.Seconds()) })
	}
	return []RefreshRow{
		{ID: "C30", Module: "refresh-token"},
		{ID: "C30", Module: "refresh-token without an ID token", Faults: []Fault{TokenAnswer(func(a map[string]any) { delete(a, "id_token") })}},
		{ID: "C30", Module: "refresh-token without another refresh token", Faults: []Fault{TokenAnswer(func(a map[string]any) { delete(a, "refresh_token") })}},
		{ID: "C31", Module: "refresh-token-invalid-issuer", Faults: []Fault{lean, suffix("iss", "1")}, Gone: true},
		{ID: "C32", Module: "refresh-token-invalid-sub", Faults: []Fault{lean, suffix("sub", "1")}, Gone: true},
		{ID: "R39", Module: "another aud", Faults: []Fault{lean, suffix("aud", "1")}, Gone: true},
		{ID: "R39", Module: "a second aud", Faults: []Fault{lean, Claims(func(c map[string]any) { c["aud"] = []any{c["aud"], "other"} })}, Gone: true},
		{ID: "R39", Module: "another auth_time", Faults: []Fault{lean, in(-time.Minute)}, Gone: true},
		{ID: "R39", Module: "another nonce", Faults: []Fault{lean, SetClaim("nonce", "another")}, Gone: true},
		{ID: "R39", Module: "a wrong signature", Faults: []Fault{lean, Compact(flipSignature)}, Gone: true},
		{ID: "R39", Module: "alg none", Faults: []Fault{lean, SignWith("none")}, Gone: true},
		{ID: "R39", Module: "a logout token", Faults: []Fault{lean, Header(func(h map[string]any) { h["typ"] = "logout+jwt" })}, Gone: true},
		{ID: "R39", Module: "userinfo of somebody else", Faults: []Fault{lean, UserInfo(func(u map[string]any) { u["sub"] = "another" })}, Gone: true},
		{ID: "R39", Module: "invalid_grant", Faults: []Fault{answerWith(AtToken, http.StatusBadRequest, `{"error":"invalid_grant"}`)}, Gone: true},
		{ID: "R39", Module: "account disabled", Disabled: true, Gone: true},
		{ID: "R39", Module: "the provider's session ended", Ended: true, Gone: true},
		{ID: "R39", Module: "500", Faults: []Fault{Status(AtToken, http.StatusInternalServerError)}, Silent: true},
		{ID: "R39", Module: "429", Faults: []Fault{Status(AtToken, http.StatusTooManyRequests)}, Silent: true},
		{ID: "R39", Module: "connection cut", Faults: []Fault{Cut(AtToken)}, Silent: true},
	}
}
