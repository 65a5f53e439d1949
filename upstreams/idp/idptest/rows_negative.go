package idptest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"time"
)

// answerRows spoil what the browser carries back. No code goes anywhere.
func answerRows() []Row {
	row := func(id, module, reason string, f ...Fault) Row {
		return Row{ID: id, Module: module, Faults: f, Reason: reason, Redirects: true}
	}
	declined := func(code string) Row {
		r := row("N38", code, "declined."+code, FailWith(code))
		r.Kind = Declined
		return r
	}
	return []Row{
		row("N1", "iss of somebody else", "callback.iss", SetParameter("iss", "https://other.example")),
		row("N1", "iss of somebody else in an error", "callback.iss", FailWith("access_denied"), SetParameter("iss", "https://other.example")),
		row("N2", "iss missing", "callback.iss_missing", DropParameter("iss")),
		row("N2", "iss missing in an error", "callback.iss_missing", FailWith("access_denied"), DropParameter("iss")),
		row("N3", "state altered", "callback.state", SetParameter("state", "other")),
		row("N4", "state missing", "callback.state", DropParameter("state")),
		row("N28", "two codes", "callback.duplicate", SetParameter("code", "a", "b")),
		row("N28", "two states", "callback.duplicate", SetParameter("state", "a", "a")),
		row("N28", "two iss", "callback.duplicate", SetParameter("iss", "a", "a")),
		row("N28", "code and error", "callback.code_and_error", SetParameter("error", "access_denied")),
		row("N28", "an ID token", "callback.token", SetParameter("id_token", "x")),
		row("N28", "an access token", "callback.token", SetParameter("access_token", "x")),
		declined("login_required"), declined("interaction_required"), declined("consent_required"),
	}
}

// tokenRows spoil the ID token, which has a good signature unless the row is about
// the signature.
func tokenRows() []Row {
	bad := func(id, module, reason string, f ...Fault) Row {
		return Row{ID: id, Module: module, Faults: append([]Fault{lean}, f...), Reason: reason, Redirects: true, Tokens: 1}
	}
	maxAge := func(module, reason string, f ...Fault) Row {
		r := bad("N39", module, reason, f...)
		r.Asks = Ask{MaxAge: true}
		return r
	}
	at := func(claim string, d time.Duration) Fault {
		return Claims(func(c map[string]any) { c[claim] = seconds(c["iat"]) + int64(d.Seconds()) })
	}
	rows := []Row{
		bad("N6", "alg none", "idtoken.malformed", SignWith("none")),
		bad("N7", "expired over five minutes ago", "idtoken.exp", at("exp", -301*time.Second), at("iat", -400*time.Second)),
		bad("N9", "a second audience", "idtoken.aud", Claims(func(c map[string]any) { c["aud"] = []any{c["aud"], "other"} })),
		bad("N14", "azp of another client", "idtoken.azp", SetClaim("azp", "other")),
		bad("N16", "sub empty", "idtoken.sub", SetClaim("sub", "")),
		bad("N16", "sub a number", "idtoken.sub", SetClaim("sub", 5)),
		bad("N16", "sub null", "idtoken.sub", SetClaim("sub", nil)),
		bad("N16", "sub of 256 characters", "idtoken.sub", SetClaim("sub", strings.Repeat("s", 256))),
		bad("N16", "sub with NUL", "idtoken.sub", SetClaim("sub", "a\x00b")),
		bad("N16", "sub with a line break", "idtoken.sub", SetClaim("sub", "a\r\nb")),
		bad("N17", "iss a list", "idtoken.iss", Claims(func(c map[string]any) { c["iss"] = []any{c["iss"]} })),
		bad("N17", "iss in another case", "idtoken.iss", Claims(func(c map[string]any) { c["iss"] = strings.ToUpper(c["iss"].(string)) })),
		bad("N17", "iss with a slash", "idtoken.iss", suffix("iss", "/")),
		bad("N17", "iss with the other scheme", "idtoken.iss", Claims(func(c map[string]any) { c["iss"] = "https" + strings.TrimPrefix(c["iss"].(string), "http") })),
		bad("N17", "iss by another name", "idtoken.iss", Claims(func(c map[string]any) { c["iss"] = strings.Replace(c["iss"].(string), "127.0.0.1", "localhost", 1) })),
		bad("N18", "iat in ten minutes", "idtoken.iat", at("exp", 20*time.Minute), at("iat", 10*time.Minute)),
		bad("N18", "iat a week ago", "idtoken.iat", at("iat", -7*24*time.Hour)),
		bad("N19", "exp is iat", "idtoken.exp", at("exp", 0)),
		bad("N19", "exp in ten years", "idtoken.exp", at("exp", 10*365*24*time.Hour)),
		bad("N19", "a life of more than a day", "idtoken.exp", at("exp", 24*time.Hour+2*time.Minute)),
		maxAge("auth_time missing", "idtoken.auth_time", DropClaims("auth_time")),
		maxAge("auth_time an hour ago", "idtoken.auth_time_old", at("auth_time", -time.Hour)),
		maxAge("auth_time in the future", "idtoken.auth_time", at("auth_time", 10*time.Minute)),
		maxAge("auth_time a string", "idtoken.auth_time", Claims(func(c map[string]any) { c["auth_time"] = fmt.Sprint(c["auth_time"]) })),
		bad("N41", "a logout token", "idtoken.typ", Header(func(h map[string]any) { h["typ"] = "logout+jwt" })),
		bad("N41", "an access token", "idtoken.typ", Header(func(h map[string]any) { h["typ"] = "at+jwt" })),
		bad("N41", "a session of ours", "idtoken.typ", Header(func(h map[string]any) { h["typ"] = "anteroom+jwt" })),
		bad("N41", "of another client", "idtoken.aud", SetClaim("aud", "other")),
		bad("N44", "of another tenant", "idtoken.iss", suffix("iss", "/other-tenant")),
		bad("N44", "of a template", "idtoken.iss", suffix("iss", "/{tenantid}")),
		{ID: "N39", Module: "max_age asked and kept", Asks: Ask{MaxAge: true}, Redirects: true, Tokens: 1},
	}
	for _, claim := range []string{"exp", "iss", "aud", "nonce"} {
		rows = append(rows, bad("N8", claim+" missing", "idtoken."+claim, DropClaims(claim)))
	}
	return rows
}

func seconds(claim any) int64 {
	switch n := claim.(type) {
	case json.Number:
		i, _ := n.Int64() // the good provider's are whole
		return i
	case int64:
		return n
	}
	panic(fmt.Sprintf("idptest: %v is no time", claim))
}

// endpointRows spoil what the client asks for itself.
func endpointRows() []Row {
	token := func(id, module, reason string, kind Kind, f Fault) Row {
		return Row{ID: id, Module: module, Faults: []Fault{lean, f}, Reason: reason, Kind: kind, Redirects: true, Tokens: 1, UserInfo: reason == ""}
	}
	info := func(module, reason string, kind Kind, f Fault) Row {
		r := token("N31", module, reason, kind, f)
		r.UserInfo = true
		return r
	}
	keys := func(module, reason string, kind Kind, f Fault) Row { return token("N32", module, reason, kind, f) }
	key := func(change func(map[string]any)) Fault {
		return Keys(func(set map[string]any) { change(set["keys"].([]map[string]any)[0]) })
	}
	member := func(name string, value any) Fault { return TokenAnswer(func(a map[string]any) { a[name] = value }) }
	cached := token("N33", "keys down, cached", "", Refused, Status(AtKeys, http.StatusServiceUnavailable))
	cached.Before = true
	return []Row{
		token("N11", "token_type bEARER", "", Refused, member("token_type", "bEARER")),
		token("N12", "no expires_in", "", Refused, TokenAnswer(func(a map[string]any) { delete(a, "expires_in") })),
		token("N22", "invalid_grant", "token.invalid_grant", Refused, answerWith(AtToken, http.StatusBadRequest, `{"error":"invalid_grant"}`)),
		info("401", "userinfo.status", Refused, Status(AtUserInfo, http.StatusUnauthorized)),
		info("500", "userinfo.unreachable", Unavailable, Status(AtUserInfo, http.StatusInternalServerError)),
		info("HTML", "userinfo.type", Refused, Status(AtUserInfo, http.StatusOK)),
		info("sub missing", "userinfo.sub", Refused, UserInfo(func(u map[string]any) { delete(u, "sub") })),
		info("a JWT where JSON was agreed on", "userinfo.type", Refused, Text(AtUserInfo, "application/jwt", "e30.e30.AA")),
		keys("no keys", "idtoken.key", Refused, Keys(func(set map[string]any) { set["keys"] = []any{} })),
		keys("the same kid twice", "idtoken.key", Refused, Keys(func(set map[string]any) {
			all := set["keys"].([]map[string]any)
			set["keys"] = append(all, JWK(sharedKey("second RS256").signer.Public(), all[0]["kid"].(string), "RS256"))
		})),
		keys("a symmetric key", "idtoken.key", Refused, key(func(k map[string]any) { k["kty"], k["k"] = "oct", "c2VjcmV0" })),
		keys("a key for encryption", "idtoken.key", Refused, key(func(k map[string]any) { k["use"] = "enc" })),
		keys("an RSA key of 1024 bits", "idtoken.key", Refused, key(func(k map[string]any) { k["n"] = k["n"].(string)[:171] })),
		keys("a point that is not on the curve", "idtoken.key", Refused, key(func(k map[string]any) {
			k["kty"], k["crv"], k["x"], k["y"], k["alg"] = "EC", "P-256", b64(make([]byte, 32)), b64(make([]byte, 32)), "RS256"
		})),
		keys("51 keys", "jwks.malformed", Unavailable, Keys(func(set map[string]any) { set["keys"] = manyKeys(set, 51) })),
		keys("ten thousand keys", "jwks.unreachable", Unavailable, Keys(func(set map[string]any) { set["keys"] = manyKeys(set, 10_000) })),
		keys("5 MiB", "jwks.unreachable", Unavailable, Huge(AtKeys, 5<<20)),
		keys("an x5c that does not fit n", "idtoken.key", Refused, key(func(k map[string]any) { k["x5c"] = []string{"AAAA"} })),
		token("N33", "keys down, not cached", "jwks.unreachable", Unavailable, Status(AtKeys, http.StatusServiceUnavailable)),
		cached,
	}
}

// manyKeys adds keys to a set until it has n.
func manyKeys(set map[string]any, n int) []map[string]any {
	all := set["keys"].([]map[string]any)
	for i := len(all); i < n; i++ {
		all = append(all, JWK(sharedKey("ES256").signer.Public(), fmt.Sprint("k", i), "ES256"))
	}
	return all
}

func answerWith(e Endpoint, status int, body string) Fault {
	return Replace(e, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		fmt.Fprint(w, body)
	})
}
