package idptest

import (
	"net/http"
	"net/url"
)

// Fault changes what the server does. Several add up, in their order.
type Fault func(*faults)

type faults struct {
	tokenFaults                           // of ID tokens
	inUserInfo, inLogout                  tokenFaults
	metadata, keys, userinfo, token, push []func(map[string]any)
	response                              []func(url.Values)
	replace                               map[Endpoint]func(*Server, http.ResponseWriter, *http.Request)
	rotate                                bool
}

// tokenFaults change a JWT before and after it is signed.
type tokenFaults struct {
	header, claims   []func(map[string]any)
	payload, compact []func(string) string
	alg              string
}

func tokenOnly(all []Fault) tokenFaults {
	var f faults
	for _, fault := range all {
		fault(&f)
	}
	return f.tokenFaults
}

// InUserInfo makes faults of tokens ([Header], [Claims], [SignWith] and so on) work
// on signed userinfo in place of ID tokens.
func InUserInfo(all ...Fault) Fault { return func(f *faults) { f.inUserInfo = tokenOnly(all) } }

// InLogout makes them work on the logout tokens that the provider posts itself.
func InLogout(all ...Fault) Fault { return func(f *faults) { f.inLogout = tokenOnly(all) } }

// Metadata changes the discovery document.
func Metadata(change func(map[string]any)) Fault {
	return func(f *faults) { f.metadata = append(f.metadata, change) }
}

// Keys changes the key set; its member "keys" is a []map[string]any.
func Keys(change func(map[string]any)) Fault {
	return func(f *faults) { f.keys = append(f.keys, change) }
}

// Response changes the parameters that the browser carries back to the client.
func Response(change func(url.Values)) Fault {
	return func(f *faults) { f.response = append(f.response, change) }
}

// Header changes the ID token's header before it is signed.
func Header(change func(map[string]any)) Fault {
	return func(f *faults) { f.header = append(f.header, change) }
}

// Claims changes the ID token's claims before it is signed.
func Claims(change func(map[string]any)) Fault {
	return func(f *faults) { f.claims = append(f.claims, change) }
}

// Payload changes the text of the ID token's claims before it is signed, for
// what a map cannot hold: duplicate members, trailing text.
func Payload(change func(string) string) Fault {
	return func(f *faults) { f.payload = append(f.payload, change) }
}

// Compact changes the signed ID token.
func Compact(change func(string) string) Fault {
	return func(f *faults) { f.compact = append(f.compact, change) }
}

// TokenAnswer changes the token endpoint's answer; "id_token" in it is final.
func TokenAnswer(change func(map[string]any)) Fault {
	return func(f *faults) { f.token = append(f.token, change) }
}

// PushAnswer changes the answer to a pushed request (RFC 9126, section 2.2).
func PushAnswer(change func(map[string]any)) Fault {
	return func(f *faults) { f.push = append(f.push, change) }
}

// UserInfo changes the userinfo answer, signed or not.
func UserInfo(change func(map[string]any)) Fault {
	return func(f *faults) { f.userinfo = append(f.userinfo, change) }
}

// SetClaim gives an ID token's claim a value; DropClaims takes claims out.
func SetClaim(name string, value any) Fault {
	return Claims(func(c map[string]any) { c[name] = value })
}

// DropClaims takes claims out of ID tokens; userinfo keeps them.
func DropClaims(names ...string) Fault {
	return Claims(func(c map[string]any) {
		for _, name := range names {
			delete(c, name)
		}
	})
}

// SignWith makes ID tokens with another algorithm than RS256: one of RS256,
// RS384, RS512, PS256, ES256, ES384, EdDSA (a key of that algorithm is published
// from now on), "none", or HS256, keyed with the text of the RSA public key.
func SignWith(alg string) Fault { return func(f *faults) { f.alg = alg } }

// RotateBeforeSigning replaces all keys each time an ID token is about to be
// signed.
func RotateBeforeSigning() Fault { return func(f *faults) { f.rotate = true } }
