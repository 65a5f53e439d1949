package oidc

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/anteroom-proxy/anteroom/identity"
	"github.com/anteroom-proxy/anteroom/identity/issuer"
	"github.com/anteroom-proxy/anteroom/jws"
	"github.com/anteroom-proxy/anteroom/upstreams/idp/idptest"
)

func b64(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }

func header(name string, value any) idptest.Fault {
	return idptest.Header(func(h map[string]any) { h[name] = value })
}

func claim(name string, value any) idptest.Fault { return idptest.SetClaim(name, value) }

// parts splits a compact token, which the provider made well.
func parts(change func(h, p, s string) string) idptest.Fault {
	return idptest.Compact(func(c string) string {
		p := strings.Split(c, ".")
		return change(p[0], p[1], p[2])
	})
}

// reheader puts another header over the same payload and signature.
func reheader(text string) idptest.Fault {
	return parts(func(_, p, s string) string { return b64(text) + "." + p + "." + s })
}

func member(text string) idptest.Fault {
	return idptest.Payload(func(p string) string { return "{" + text + "," + p[1:] })
}

// trailing gives the character whose unused bits are not zero.
func trailing(c byte) string {
	const all = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	return string(all[strings.IndexByte(all, c)+1])
}

// reuser makes a payload somebody else's.
func reuser(payload string) string {
	text, err := base64.RawURLEncoding.DecodeString(payload)
	if err != nil {
		panic(err)
	}
	return b64(strings.Replace(string(text), "doctor", "patient", 1))
}

// swap exchanges two characters in the middle.
func swap(s string) string {
	for i := len(s) / 2; i > 0; i-- {
		if s[i] != s[i-1] {
			return s[:i-1] + s[i:i+1] + s[i-1:i] + s[i+1:]
		}
	}
	return s
}

// Part 3 of the attack tables at the ID token: refused with a reason, one token
// request, no userinfo request, and no request to any address in the token.
func TestIDTokenRows(t *testing.T) {
	r := newRig(t, nil)
	cut := func(text string) idptest.Fault { return idptest.Compact(func(string) string { return text }) }
	for _, c := range []struct {
		name, reason string
		faults       []idptest.Fault
	}{
		{"J1 none", "idtoken.malformed", []idptest.Fault{idptest.SignWith("none")}},
		{"J2 None with a signature", "idtoken.alg", []idptest.Fault{header("alg", "None")}},
		{"J2 nOnE with a signature", "idtoken.alg", []idptest.Fault{header("alg", "nOnE")}},
		{"J2 none and a blank", "idtoken.alg", []idptest.Fault{header("alg", "none ")}},
		{"J2 full-width none", "idtoken.alg", []idptest.Fault{header("alg", "ｎｏｎｅ")}},
		{"J2 none escaped", "idtoken.alg", []idptest.Fault{reheader(`{"alg":"n\u006fne"}`)}},
		{"J3 none with a signature kept, N6", "idtoken.alg", []idptest.Fault{reheader(`{"alg":"none"}`)}},
		{"J4 h.p.", "idtoken.malformed", []idptest.Fault{parts(func(h, p, _ string) string { return h + "." + p + "." })}},
		{"J4 h.p", "idtoken.malformed", []idptest.Fault{parts(func(h, p, _ string) string { return h + "." + p })}},
		{"J4 h..s", "idtoken.malformed", []idptest.Fault{parts(func(h, _, s string) string { return h + ".." + s })}},
		{"J4 .p.s", "idtoken.malformed", []idptest.Fault{parts(func(_, p, s string) string { return "." + p + "." + s })}},
		{"J4 empty", "idtoken.malformed", []idptest.Fault{cut("")}},
		{"J4 dots", "idtoken.malformed", []idptest.Fault{cut("..")}},
		{"J4 five parts", "idtoken.malformed", []idptest.Fault{parts(func(h, p, s string) string { return h + "." + p + "." + s + ".x.y" })}},
		{"J6 alg missing", "idtoken.alg", []idptest.Fault{idptest.Header(func(h map[string]any) { delete(h, "alg") })}},
		{"J6 alg null", "idtoken.malformed", []idptest.Fault{header("alg", nil)}},
		{"J6 alg a number", "idtoken.malformed", []idptest.Fault{header("alg", 256)}},
		{"J6 alg a list", "idtoken.malformed", []idptest.Fault{header("alg", []string{"RS256"})}},
		{"J7 HS256 with the public key", "idtoken.alg", []idptest.Fault{idptest.SignWith("HS256")}},
		{"J8 HS512", "idtoken.alg", []idptest.Fault{header("alg", "HS512")}},
		{"J9 RS256 key, PS256 said", "idtoken.key", []idptest.Fault{header("alg", "PS256")}},
		{"J9 RS256 key, RS512 said", "idtoken.alg", []idptest.Fault{header("alg", "RS512")}},
		{"R24 alg in lower case", "idtoken.alg", []idptest.Fault{header("alg", "rs256")}},
		{"R24 alg that the provider does not list", "idtoken.alg", []idptest.Fault{idptest.SignWith("RS384")}},
		{"J13 ES256 with r=s=0", "idtoken.signature", []idptest.Fault{idptest.SignWith("ES256"), parts(func(h, p, _ string) string { return h + "." + p + "." + b64(strings.Repeat("\x00", 64)) })}},
		{"J14 ES256 too short", "idtoken.signature", []idptest.Fault{idptest.SignWith("ES256"), parts(func(h, p, s string) string { return h + "." + p + "." + s[:84] })}},
		{"J17 RSA all zero", "idtoken.signature", []idptest.Fault{parts(func(h, p, _ string) string { return h + "." + p + "." + b64(strings.Repeat("\x00", 256)) })}},
		{"J18 payload of another token", "idtoken.signature", []idptest.Fault{parts(func(h, p, s string) string { return h + "." + reuser(p) + "." + s })}},
		{"J22 jwk", "idtoken.malformed", []idptest.Fault{header("jwk", map[string]any{"kty": "RSA"})}},
		{"J23 jku", "idtoken.malformed", []idptest.Fault{header("jku", r.server.URL+"/evil")}},
		{"J23 x5u", "idtoken.malformed", []idptest.Fault{header("x5u", r.server.URL+"/evil")}},
		{"J26 kid as SQL", "idtoken.key", []idptest.Fault{header("kid", "' UNION SELECT 'x")}},
		{"J26 kid as a template", "idtoken.key", []idptest.Fault{header("kid", `{{env "X"}}`)}},
		{"J26 kid with CR LF", "idtoken.malformed", []idptest.Fault{header("kid", "a\r\nDEL x")}},
		{"J27 kid a number", "idtoken.malformed", []idptest.Fault{header("kid", 1)}},
		{"J27 kid null", "idtoken.malformed", []idptest.Fault{header("kid", nil)}},
		{"J27 kid empty", "idtoken.malformed", []idptest.Fault{header("kid", "")}},
		{"J27 kid of 257 bytes", "idtoken.malformed", []idptest.Fault{header("kid", strings.Repeat("k", 257))}},
		{"J27 kid with a mark", "idtoken.malformed", []idptest.Fault{header("kid", "shared-RS256\u200f")}},
		{"J28 kid of a key of another kind", "idtoken.key", []idptest.Fault{header("kid", "shared-ES256")}},
		{"J29 crit", "idtoken.malformed", []idptest.Fault{header("crit", []string{"exp"})}},
		{"J29 crit empty", "idtoken.malformed", []idptest.Fault{header("crit", []string{})}},
		{"J29 b64", "idtoken.malformed", []idptest.Fault{header("b64", false)}},
		{"J31 at+jwt", "idtoken.typ", []idptest.Fault{header("typ", "at+jwt")}},
		{"J31 logout+jwt", "idtoken.typ", []idptest.Fault{header("typ", "logout+jwt")}},
		{"J31 dpop+jwt", "idtoken.typ", []idptest.Fault{header("typ", "application/dpop+jwt")}},
		{"J31 own session", "idtoken.typ", []idptest.Fault{header("typ", "anteroom+jwt")}},
		{"J31 typ a number", "idtoken.malformed", []idptest.Fault{header("typ", 5)}},
		{"J32 nested", "idtoken.malformed", []idptest.Fault{header("cty", "JWT")}},
		{"J33 zip", "idtoken.malformed", []idptest.Fault{header("zip", "DEF")}},
		{"J36 JWE", "idtoken.malformed", []idptest.Fault{cut(b64(`{"alg":"RSA-OAEP","enc":"A256GCM"}`) + ".YQ.YQ.YQ.YQ")}},
		{"J38 padding", "idtoken.malformed", []idptest.Fault{idptest.Compact(func(c string) string { return c + "=" })}},
		{"J38 line break", "idtoken.malformed", []idptest.Fault{idptest.Compact(func(c string) string { return c + "\n" })}},
		{"J38 trailing bits", "idtoken.malformed", []idptest.Fault{idptest.Compact(func(c string) string { return c[:len(c)-1] + trailing(c[len(c)-1]) })}},
		{"J39 JSON form", "idtoken.malformed", []idptest.Fault{cut(`{"payload":"e30","signatures":[]}`)}},
		{"J41 two subs", "idtoken.malformed", []idptest.Fault{member(`"sub":"x"`)}},
		{"J41 two auds", "idtoken.malformed", []idptest.Fault{member(`"aud":"x"`)}},
		{"J42 only SUB", "idtoken.sub", []idptest.Fault{idptest.DropClaims("sub"), claim("SUB", "x")}},
		{"J42 only Exp", "idtoken.exp", []idptest.Fault{idptest.DropClaims("exp"), claim("Exp", 9e9)}},
		{"J43 long s", "idtoken.sub", []idptest.Fault{idptest.DropClaims("sub"), claim("\u017fub", "x")}},
		{"J44 escaped name beside the plain one", "idtoken.malformed", []idptest.Fault{member(`"\u0073ub":"x"`)}},
		{"J47 iss a list", "idtoken.iss", []idptest.Fault{claim("iss", []string{r.server.URL})}},
		{"J48 payload null", "idtoken.malformed", []idptest.Fault{idptest.Payload(func(string) string { return "null" })}},
		{"J48 payload a list", "idtoken.malformed", []idptest.Fault{idptest.Payload(func(p string) string { return "[" + p + "]" })}},
		{"J49 trailing object", "idtoken.malformed", []idptest.Fault{idptest.Payload(func(p string) string { return p + "{}" })}},
		{"J49 byte order mark", "idtoken.malformed", []idptest.Fault{idptest.Payload(func(p string) string { return "\ufeff" + p })}},
		{"J51 too long", "idtoken.malformed", []idptest.Fault{claim("filler", strings.Repeat("x", jws.MaxToken))}},
		{"J51 many dots", "idtoken.malformed", []idptest.Fault{cut(strings.Repeat(".", 1<<19))}},
		{"J53 huge number", "idtoken.malformed", []idptest.Fault{member(`"x":1e400`)}},
		{"J54 exp a string", "idtoken.exp", []idptest.Fault{claim("exp", fmt.Sprint(r.server.Now().Add(time.Minute).Unix()))}},
		{"J56 exp with an exponent", "idtoken.exp", []idptest.Fault{claim("exp", json.Number("2e9"))}},
		{"J57 exp negative", "idtoken.exp", []idptest.Fault{claim("exp", -1)}},
		{"J57 exp 0", "idtoken.exp", []idptest.Fault{claim("exp", 0)}},
		{"J57 exp null", "idtoken.exp", []idptest.Fault{claim("exp", nil)}},
		{"J57 exp true", "idtoken.exp", []idptest.Fault{claim("exp", true)}},
		{"J57 exp a list", "idtoken.exp", []idptest.Fault{claim("exp", []int{})}},
		{"J57 exp an object", "idtoken.exp", []idptest.Fault{claim("exp", map[string]any{})}},
		{"J58 exp 2^53+1", "idtoken.exp", []idptest.Fault{claim("exp", json.Number("9007199254740993"))}},
		{"J58 exp 2^63-1", "idtoken.exp", []idptest.Fault{claim("exp", json.Number("9223372036854775807"))}},
		{"J58 exp 2^63", "idtoken.exp", []idptest.Fault{claim("exp", json.Number("9223372036854775808"))}},
		{"J58 exp of twenty digits", "idtoken.exp", []idptest.Fault{claim("exp", json.Number("99999999999999999999"))}},
		{"J59 exp in milliseconds", "idtoken.exp", []idptest.Fault{claim("exp", r.server.Now().UnixMilli())}},
		{"N7 exp five minutes ago", "idtoken.exp", []idptest.Fault{claim("exp", r.server.Now().Add(-5*time.Minute).Unix()), claim("iat", r.server.Now().Add(-9*time.Minute).Unix())}},
		{"N8 exp missing", "idtoken.exp", []idptest.Fault{idptest.DropClaims("exp")}},
		{"N8 iss missing", "idtoken.iss", []idptest.Fault{idptest.DropClaims("iss")}},
		{"N8 aud missing", "idtoken.aud", []idptest.Fault{idptest.DropClaims("aud")}},
		{"N8 nonce missing", "idtoken.nonce", []idptest.Fault{idptest.DropClaims("nonce")}},
		{"N8 nonce empty", "idtoken.nonce", []idptest.Fault{claim("nonce", "")}},
		{"N8 nonce null", "idtoken.nonce", []idptest.Fault{claim("nonce", nil)}},
		{"N9 second audience", "idtoken.aud", []idptest.Fault{claim("aud", []string{"anteroom", "other"})}},
		{"J66 aud empty list", "idtoken.aud", []idptest.Fault{claim("aud", []string{})}},
		{"J66 aud nested", "idtoken.aud", []idptest.Fault{claim("aud", []any{[]string{"anteroom"}})}},
		{"J66 aud wildcard", "idtoken.aud", []idptest.Fault{claim("aud", "*")}},
		{"J66 aud prefix", "idtoken.aud", []idptest.Fault{claim("aud", "anteroo")}},
		{"J66 aud with a slash", "idtoken.aud", []idptest.Fault{claim("aud", "anteroom/")}},
		{"J66 aud in another case", "idtoken.aud", []idptest.Fault{claim("aud", "Anteroom")}},
		{"J66 aud a number", "idtoken.aud", []idptest.Fault{claim("aud", 1)}},
		{"N14 azp of another client", "idtoken.azp", []idptest.Fault{claim("azp", "other")}},
		{"R27 azp null", "idtoken.azp", []idptest.Fault{claim("azp", nil)}},
		{"N16 sub empty", "idtoken.sub", []idptest.Fault{claim("sub", "")}},
		{"N16 sub a number", "idtoken.sub", []idptest.Fault{claim("sub", 5)}},
		{"N16 sub null", "idtoken.sub", []idptest.Fault{claim("sub", nil)}},
		{"N16 sub of 256 characters", "idtoken.sub", []idptest.Fault{claim("sub", strings.Repeat("s", 256))}},
		{"N16 sub with NUL", "idtoken.sub", []idptest.Fault{claim("sub", "a\x00b")}},
		{"N16 sub with CR LF", "idtoken.sub", []idptest.Fault{claim("sub", "a\r\nb")}},
		{"N16 sub not ASCII", "idtoken.sub", []idptest.Fault{claim("sub", "ä")}},
		{"N17 iss in another case", "idtoken.iss", []idptest.Fault{claim("iss", strings.ToUpper(r.server.URL))}},
		{"N17 iss with a slash", "idtoken.iss", []idptest.Fault{claim("iss", r.server.URL+"/")}},
		{"N17 iss with the other scheme", "idtoken.iss", []idptest.Fault{claim("iss", "https"+strings.TrimPrefix(r.server.URL, "http"))}},
		{"N17 iss by another name", "idtoken.iss", []idptest.Fault{claim("iss", strings.Replace(r.server.URL, "127.0.0.1", "localhost", 1))}},
		{"J67 iss with a user", "idtoken.iss", []idptest.Fault{claim("iss", strings.Replace(r.server.URL, "//", "//x@", 1))}},
		{"N18 iat in ten minutes", "idtoken.iat", []idptest.Fault{claim("iat", r.server.Now().Add(10*time.Minute).Unix()), claim("exp", r.server.Now().Add(20*time.Minute).Unix())}},
		{"N18 iat a week ago", "idtoken.iat", []idptest.Fault{claim("iat", r.server.Now().Add(-7*24*time.Hour).Unix())}},
		{"J63 iat in the year 2100", "idtoken.iat", []idptest.Fault{claim("iat", 4102444800)}},
		{"N18 iat a string", "idtoken.iat", []idptest.Fault{claim("iat", "1")}},
		{"N19 exp ten years ahead", "idtoken.exp", []idptest.Fault{claim("exp", r.server.Now().AddDate(10, 0, 0).Unix())}},
		{"J64 exp a year ahead", "idtoken.exp", []idptest.Fault{claim("exp", r.server.Now().AddDate(1, 0, 0).Unix())}},
		{"J62 nbf in two minutes", "idtoken.nbf", []idptest.Fault{claim("nbf", r.server.Now().Add(2*time.Minute).Unix())}},
		{"J62 nbf a string", "idtoken.nbf", []idptest.Fault{claim("nbf", "1")}},
		{"J62 nbf null", "idtoken.nbf", []idptest.Fault{claim("nbf", nil)}},
		{"C24 at_hash empty", "idtoken.at_hash", []idptest.Fault{claim("at_hash", "")}},
		{"C24 at_hash a list", "idtoken.at_hash", []idptest.Fault{claim("at_hash", []string{})}},
		{"C24 at_hash by another algorithm", "idtoken.at_hash", []idptest.Fault{claim("at_hash", idptest.AtHash("EdDSA", "x"))}},
		{"N39 auth_time in the future", "idtoken.auth_time", []idptest.Fault{claim("auth_time", r.server.Now().Add(2*time.Minute).Unix())}},
		{"N39 auth_time a string", "idtoken.auth_time", []idptest.Fault{claim("auth_time", "1")}},
		{"N39 auth_time null", "idtoken.auth_time", []idptest.Fault{claim("auth_time", nil)}},
		{"R35 acr a list", "idtoken.acr", []idptest.Fault{claim("acr", []string{"urn:mfa"})}},
		{"R35 amr an object", "idtoken.amr", []idptest.Fault{claim("amr", map[string]any{"pwd": true})}},
		{"N41 logout token without a type", "idtoken.nonce", []idptest.Fault{idptest.Header(func(h map[string]any) { delete(h, "typ") }), idptest.DropClaims("nonce"),
			claim("events", map[string]any{"http://schemas.openid.net/event/backchannel-logout": map[string]any{}})}},
		{"N41 ID token of another client", "idtoken.aud", []idptest.Fault{claim("aud", "other"), claim("azp", "other")}},
		{"CVE-2024-51744 expired and badly signed", "idtoken.signature", []idptest.Fault{claim("exp", 1), parts(func(h, p, s string) string { return h + "." + p + "." + swap(s) })}},
	} {
		t.Run(c.name, func(t *testing.T) {
			r.refuses(t, c.reason, c.faults...)
			if n := r.server.Count(idptest.AtElsewhere); n != 0 {
				t.Errorf("%d requests because of a token", n)
			}
		})
	}
}

// What looks odd and is right.
func TestIDTokenAccepted(t *testing.T) {
	r := newRig(t, nil)
	for _, c := range []struct {
		name   string
		faults []idptest.Fault
	}{
		{"J37 unknown header member", []idptest.Fault{header("foo", 1)}},
		{"J24 x5t and x5c choose nothing", []idptest.Fault{header("x5t", "AAAA"), header("x5c", []string{certificate(t, otherKey(t))})}},
		{"J31 typ absent", []idptest.Fault{idptest.Header(func(h map[string]any) { delete(h, "typ") })}},
		{"J31 typ jwt", []idptest.Fault{header("typ", "jwt")}},
		{"J31 typ application/JWT", []idptest.Fault{header("typ", "application/JWT")}},
		{"J42 SUB beside sub", []idptest.Fault{claim("SUB", "x"), claim("ISS", "x"), claim("AUD", 5), claim("Exp", "x")}},
		{"J43 long s beside sub", []idptest.Fault{claim("\u017fub", "x")}},
		{"J52 many claims", []idptest.Fault{idptest.Claims(func(c map[string]any) {
			for i := range 400 {
				c[fmt.Sprint("c", i)] = i
			}
		})}},
		{"R26 aud as a list of us", []idptest.Fault{claim("aud", []string{"anteroom"})}},
		{"R27 azp is us", []idptest.Fault{claim("azp", "anteroom")}},
		{"R24 ES256", []idptest.Fault{idptest.SignWith("ES256")}},
		{"R24 EdDSA", []idptest.Fault{idptest.SignWith("EdDSA")}},
		{"R24 PS256", []idptest.Fault{idptest.SignWith("PS256")}},
		{"R24 ES384", []idptest.Fault{idptest.SignWith("ES384")}},
		{"J62 nbf now", []idptest.Fault{claim("nbf", r.server.Now().Unix())}},
	} {
		t.Run(c.name, func(t *testing.T) {
			r.server.Pass(issuer.MissRefetch) // another key is published in some rows
			r.accepts(t, c.faults...)
		})
	}
}

// J19: the same issuer and kid, another key.
func TestJ19KeyOfAnotherEnvironment(t *testing.T) {
	r := newRig(t, nil)
	other := idptest.JWK(otherKey(t).Public(), "shared-ES256", "ES256")
	r.refuses(t, "idtoken.signature", idptest.SignWith("ES256"), idptest.Keys(func(set map[string]any) { set["keys"] = []any{other} }))
}

// J46: values that look like a mapped one give no role.
func TestJ46LookAlikeRoles(t *testing.T) {
	r := newRig(t, nil)
	for _, value := range []string{"ＤＯＣＴＯＲ", "Doctor", "doct\u043er", "doc\u200dtor", "doctor ", " doctor", "doctor\x00", "doctor,patient", ""} {
		who := r.accepts(t, claim("roles", []string{value}))
		if len(who.Roles) != 0 {
			t.Errorf("J46 %q became %v", value, who.Roles)
		}
	}
}

// J47: claims of the wrong type.
func TestJ47Types(t *testing.T) {
	r := newRig(t, nil)
	for _, c := range []struct {
		name, claim string
		value       any
		reason      string
	}{
		{"J47 roles an object", "roles", map[string]any{"$ne": ""}, "roles.type"},
		{"J47 roles true", "roles", true, "roles.type"},
		{"J47 roles a list with an object", "roles", []any{"doctor", map[string]any{}}, "roles.type"},
		{"J47 roles a list in a list", "roles", []any{[]any{"doctor"}}, "roles.type"},
		{"J47 username a number", "preferred_username", 5, "username.type"},
		{"J47 username a list", "preferred_username", []any{"doctor"}, "username.type"},
		{"J47 name an object", "name", map[string]any{}, "name.type"},
		{"J47 e-mail true", "email", true, "email.type"},
	} {
		t.Run(c.name, func(t *testing.T) {
			who, err := r.attempt(t, claim(c.claim, c.value))
			wantFailure(t, who, err, identity.ErrRefused, c.reason)
		})
	}
	t.Run("J47 username null", func(t *testing.T) {
		who, err := r.attempt(t, claim("preferred_username", nil), idptest.UserInfo(func(u map[string]any) { delete(u, "preferred_username") }))
		wantFailure(t, who, err, identity.ErrRefused, "username.missing")
	})
}

// J61, J62, J63, N19: the boundaries, to the second.
func TestTimeBoundaries(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	for _, c := range []struct {
		name          string
		iat, exp, nbf int // seconds from now; nbf 1<<30: none
		reason        string
	}{
		{"J61 exp now", -60, 0, 1 << 30, ""},
		{"J61 exp now+1", -60, 1, 1 << 30, ""},
		{"J61 exp now-SKEW+1", -120, -59, 1 << 30, ""},
		{"J61 exp now-SKEW", -120, -60, 1 << 30, "idtoken.exp"},
		{"J61 exp now-SKEW-1", -120, -61, 1 << 30, "idtoken.exp"},
		{"J62 nbf +SKEW", 0, 60, 60, ""},
		{"J62 nbf +SKEW+1", 0, 60, 61, "idtoken.nbf"},
		{"J63 iat +SKEW", 60, 120, 1 << 30, ""},
		{"J63 iat +SKEW+1", 61, 120, 1 << 30, "idtoken.iat"},
		{"N18 iat ten minutes ago", -600, 60, 1 << 30, ""},
		{"N18 iat ten minutes and a second ago", -601, 60, 1 << 30, "idtoken.iat"},
		{"N19 exp = iat", 0, 0, 1 << 30, "idtoken.exp"},
		{"N19 exp before iat", 30, 0, 1 << 30, "idtoken.exp"},
		{"N19 life of a day", 0, 86400, 1 << 30, ""},
		{"N19 life of a day and a second", 0, 86401, 1 << 30, "idtoken.exp"},
	} {
		t.Run(c.name, func(t *testing.T) {
			at := func(s int) json.RawMessage { return json.RawMessage(fmt.Sprint(now.Unix() + int64(s))) }
			claims := claimSet{Claims: jws.Claims{"iat": at(c.iat), "exp": at(c.exp)}}
			if c.nbf < 1<<30 {
				claims.Claims["nbf"] = at(c.nbf)
			}
			if got := identity.Reason(claims.checkTimes(now)); got != c.reason {
				t.Fatalf("reason %q, want %q", got, c.reason)
			}
		})
	}
}

// J78: whatever byte of a good token changes, it is refused.
func TestJ78AnyByte(t *testing.T) {
	for _, alg := range []string{"RS256", "ES256", "EdDSA"} {
		t.Run("J78 "+alg, func(t *testing.T) {
			r := newRig(t, nil)
			r.server.Use(idptest.SignWith(alg))
			step := r.begin(t)
			cb := back(step, r.browser.SignIn(t, step.RedirectURL, "doctor", "doctor"))
			ctx := t.Context()
			p, err := r.source.ready(ctx)
			if err != nil {
				t.Fatal(err)
			}
			k, err := r.source.openKept(cb)
			if err != nil {
				t.Fatal(err)
			}
			good, err := r.source.exchange(ctx, p, k, cb.Query.Get("code"))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := r.source.checkIDToken(ctx, p, good, k); err != nil {
				t.Fatal(err)
			}
			try := func(id string) {
				if _, err := r.source.checkIDToken(ctx, p, tokens{access: good.access, id: id}, k); err == nil {
					t.Fatalf("accepted after a change: %s", id)
				}
			}
			for i := range good.id {
				for _, other := range []byte{good.id[i] ^ 1, 'A', '.'} {
					if other != good.id[i] {
						try(good.id[:i] + string(other) + good.id[i+1:])
					}
				}
				try(good.id[:i] + good.id[i+1:])
				try(good.id[:i] + "A" + good.id[i:])
			}
		})
	}
}

// CVE-2026-28498: at_hash by an unknown algorithm matches nothing.
func TestAccessHash(t *testing.T) {
	if got := accessHash("RS256", "jHkWEdUXMU1BwAsC4vtUsZwnNvTIxEl0z9K3vx5KF0Y"); got != "77QmUPtjPfzWtF2AnpK9RQ" {
		t.Errorf("at_hash of the example of OpenID Connect Core 1.0 is %q", got)
	}
	c := claimSet{Claims: maps.Clone(jws.Claims{"nonce": json.RawMessage(`"n"`), "at_hash": json.RawMessage(`""`)})}
	if got := identity.Reason(c.checkAccessHash("XX256", "access")); got != "idtoken.at_hash" {
		t.Errorf("reason %q", got)
	}
}
