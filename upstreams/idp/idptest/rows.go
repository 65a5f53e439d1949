package idptest

import (
	"slices"
	"strings"

	"github.com/anteroom-proxy/anteroom/upstreams/idp"
)

// Row is a line of the conformance table with what a client has to do: a module
// of the OpenID conformance suite for relying parties (its name without the prefix
// "oidcc-client-test-"), or a negative that the suite does not have.
type Row struct {
	ID, Module string
	Client     func(*idp.Client) // the registration; nil: as New makes it
	Asks       Ask               // what the client has to be configured for
	Before     bool              // a good sign-in comes before the faults
	Rotated    bool              // and then the provider has other keys
	Faults     []Fault
	Reason     string // fixed code of the refusal; "" when the sign-in succeeds
	Kind       Kind   // of the refusal
	Redirects  bool   // false: the client does not even send the browser to the provider
	Tokens     int    // requests to the token endpoint
	UserInfo   bool   // whether userinfo may have been asked
}

// Kind is what a refusal means.
type Kind string

// The kinds.
const (
	Refused     Kind = "" // the provider's answer is not good
	Unavailable Kind = "unavailable"
	Declined    Kind = "declined" // the provider said no
)

// Ask is what a client asks for besides the usual, all of it together.
type Ask struct {
	MaxAge, FormPost, SignedUserInfo bool
	Again                            bool // prompt=login
}

// Rows are the modules of the Basic, Config and Form Post profiles, those of the
// comprehensive plan as far as they are about a code flow client, and the
// negatives of FAPI 2.0 and our own that a library can show. Each is run with a
// server of its own.
func Rows() []Row { return slices.Concat(moduleRows(), answerRows(), tokenRows(), endpointRows()) }

// The suite makes clients ask userinfo; ours does when the ID token leaves
// something open.
var lean = DropClaims("name", "email", "roles")

func suffix(claim, text string) Fault {
	return Claims(func(c map[string]any) { c[claim] = c[claim].(string) + text })
}

func moduleRows() []Row {
	badSignature := Compact(flipSignature)
	return []Row{
		{ID: "C1", Module: "(base)", Faults: []Fault{lean}, Redirects: true, Tokens: 1, UserInfo: true},
		{ID: "C2", Module: "invalid-iss", Faults: []Fault{lean, suffix("iss", "1")}, Reason: "idtoken.iss", Redirects: true, Tokens: 1},
		{ID: "C3", Module: "missing-sub", Faults: []Fault{lean, DropClaims("sub")}, Reason: "idtoken.sub", Redirects: true, Tokens: 1},
		{ID: "C4", Module: "invalid-aud", Faults: []Fault{lean, suffix("aud", "1")}, Reason: "idtoken.aud", Redirects: true, Tokens: 1},
		{ID: "C5", Module: "missing-iat", Faults: []Fault{lean, DropClaims("iat")}, Reason: "idtoken.iat", Redirects: true, Tokens: 1},
		{ID: "C6", Module: "kid-absent-single-jwks", Faults: []Fault{lean, noKid, Keys(onlyFirstKey)}, Redirects: true, Tokens: 1, UserInfo: true},
		{ID: "C7", Module: "kid-absent-multiple-jwks", Faults: []Fault{lean, noKid, Keys(secondRSAKey)}, Reason: "idtoken.key_ambiguous", Redirects: true, Tokens: 1},
		{ID: "C8", Module: "idtoken-sig-rs256", Faults: []Fault{lean, SignWith("RS256")}, Redirects: true, Tokens: 1, UserInfo: true},
		{ID: "C9", Module: "idtoken-sig-none", Faults: []Fault{lean, SignWith("none")}, Reason: "idtoken.malformed", Redirects: true, Tokens: 1},
		{ID: "C10", Module: "invalid-sig-rs256", Faults: []Fault{lean, SignWith("RS256"), badSignature}, Reason: "idtoken.signature", Redirects: true, Tokens: 1},
		{ID: "C11", Module: "invalid-sig-es256", Faults: []Fault{lean, SignWith("ES256"), badSignature}, Reason: "idtoken.signature", Redirects: true, Tokens: 1},
		{ID: "C12", Module: "invalid-sig-hs256", Faults: []Fault{lean, SignWith("HS256")}, Reason: "idtoken.alg", Redirects: true, Tokens: 1},
		{ID: "C13", Module: "missing-aud", Faults: []Fault{lean, DropClaims("aud")}, Reason: "idtoken.aud", Redirects: true, Tokens: 1},
		{ID: "C14", Module: "nonce-invalid", Faults: []Fault{lean, suffix("nonce", "1")}, Reason: "idtoken.nonce", Redirects: true, Tokens: 1},
		{ID: "C16", Module: "userinfo-invalid-sub", Faults: []Fault{lean, UserInfo(func(u map[string]any) { u["sub"] = u["sub"].(string) + "invalid" })},
			Reason: "userinfo.sub", Redirects: true, Tokens: 1, UserInfo: true},
		{ID: "C17", Module: "scope-userinfo-claims", Faults: []Fault{DropClaims("preferred_username", "name", "email", "roles")}, Redirects: true, Tokens: 1, UserInfo: true},
		{ID: "C18", Module: "client-secret-basic", Redirects: true, Tokens: 1},
		{ID: "C20", Module: "userinfo-signed", Client: signs, Asks: Ask{SignedUserInfo: true}, Faults: []Fault{lean}, Redirects: true, Tokens: 1, UserInfo: true},
		{ID: "C20", Module: "userinfo-signed, wrong aud", Client: signs, Asks: Ask{SignedUserInfo: true}, Faults: []Fault{lean, InUserInfo(suffix("aud", "1"))},
			Reason: "userinfo.aud", Redirects: true, Tokens: 1, UserInfo: true},
		{ID: "C20", Module: "userinfo-signed, wrong iss", Client: signs, Asks: Ask{SignedUserInfo: true}, Faults: []Fault{lean, InUserInfo(suffix("iss", "1"))},
			Reason: "userinfo.iss", Redirects: true, Tokens: 1, UserInfo: true},
		{ID: "C20", Module: "userinfo-signed, wrong sub", Client: signs, Asks: Ask{SignedUserInfo: true}, Faults: []Fault{lean, InUserInfo(suffix("sub", "invalid"))},
			Reason: "userinfo.sub", Redirects: true, Tokens: 1, UserInfo: true},
		{ID: "C20", Module: "userinfo-signed, wrong signature", Client: signs, Asks: Ask{SignedUserInfo: true}, Faults: []Fault{lean, InUserInfo(badSignature)},
			Reason: "userinfo.signature", Redirects: true, Tokens: 1, UserInfo: true},
		{ID: "C20", Module: "userinfo-signed, alg none", Client: signs, Asks: Ask{SignedUserInfo: true}, Faults: []Fault{lean, InUserInfo(SignWith("none"))},
			Reason: "userinfo.malformed", Redirects: true, Tokens: 1, UserInfo: true},
		{ID: "C20", Module: "userinfo-signed, HS256 with the public key", Client: signs, Asks: Ask{SignedUserInfo: true}, Faults: []Fault{lean, InUserInfo(SignWith("HS256"))},
			Reason: "userinfo.alg", Redirects: true, Tokens: 1, UserInfo: true},
		{ID: "C20", Module: "userinfo-signed, but plain", Asks: Ask{SignedUserInfo: true}, Faults: []Fault{lean},
			Reason: "userinfo.type", Redirects: true, Tokens: 1, UserInfo: true},
		{ID: "C21", Module: "form-post", Asks: Ask{FormPost: true}, Redirects: true, Tokens: 1},
		{ID: "C21", Module: "form-post-error", Asks: Ask{FormPost: true}, Faults: []Fault{FailWith("login_required")}, Reason: "declined.login_required", Kind: Declined, Redirects: true},
		{ID: "C22", Module: "mtls-endpoint-aliases", Faults: []Fault{Metadata(func(m map[string]any) {
			m["mtls_endpoint_aliases"] = map[string]any{"token_endpoint": "https://mtls.example/token", "userinfo_endpoint": "https://mtls.example/userinfo"}
		})}, Redirects: true, Tokens: 1},
		{ID: "C23", Module: "aggregated-claims", Faults: []Fault{byReference(map[string]any{"JWT": "e30.e30.AA"})}, Redirects: true, Tokens: 1, UserInfo: true},
		{ID: "C23", Module: "distributed-claims", Faults: []Fault{byReference(map[string]any{"endpoint": "ISSUER/distributed", "access_token": "x"})}, Redirects: true, Tokens: 1, UserInfo: true},
		{ID: "C24", Module: "invalid-athash", Faults: []Fault{lean, SetClaim("at_hash", AtHash("RS256", "another token"))}, Reason: "idtoken.at_hash", Redirects: true, Tokens: 1},
		{ID: "C24", Module: "missing-athash", Faults: []Fault{lean, DropClaims("at_hash")}, Redirects: true, Tokens: 1, UserInfo: true},
		{ID: "C25", Module: "discovery-openid-config", Redirects: true, Tokens: 1},
		{ID: "C26", Module: "discovery-jwks-uri-keys", Redirects: true, Tokens: 1},
		{ID: "C27", Module: "discovery-issuer-mismatch", Faults: []Fault{Metadata(func(m map[string]any) { m["issuer"] = m["issuer"].(string) + "/" })}, Reason: "discovery.issuer", Kind: Unavailable},
		{ID: "C28", Module: "signing-key-rotation", Before: true, Rotated: true, Redirects: true, Tokens: 1},
		{ID: "C29", Module: "signing-key-rotation-just-before-signing", Before: true, Faults: []Fault{RotateBeforeSigning()}, Redirects: true, Tokens: 1},
	}
}

func signs(c *idp.Client) { c.SignedUserInfo = true }

var noKid = Header(func(h map[string]any) { delete(h, "kid") })

func onlyFirstKey(set map[string]any) { set["keys"] = set["keys"].([]map[string]any)[:1] }

// secondRSAKey adds another RSA key that fits RS256.
func secondRSAKey(set map[string]any) {
	other := sharedKey("second RS256")
	set["keys"] = append(set["keys"].([]map[string]any), JWK(other.signer.Public(), "second", "RS256"))
}

// flipSignature changes a bit in the middle of the signature.
func flipSignature(compact string) string {
	dot := strings.LastIndexByte(compact, '.')
	at := dot + (len(compact)-dot)/2
	other := byte('A')
	if compact[at] == 'A' {
		other = 'B'
	}
	return compact[:at] + string(other) + compact[at+1:]
}

// byReference gives the roles as an aggregated or distributed claim (OpenID
// Connect Core 1.0, section 5.6.2). ISSUER in an endpoint is the server.
func byReference(source map[string]any) Fault {
	return Claims(func(c map[string]any) {
		if endpoint, ok := source["endpoint"].(string); ok {
			source["endpoint"] = strings.Replace(endpoint, "ISSUER", c["iss"].(string), 1)
		}
		delete(c, "roles")
		c["_claim_names"] = map[string]any{"roles": "src1", "shoe_size": "src1"}
		c["_claim_sources"] = map[string]any{"src1": source}
	})
}
