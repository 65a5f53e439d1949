package bearer

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/anteroom-proxy/anteroom/jws"
)

// The names of these tests are rows of the table of requirements.

func TestRow61HeaderOnly(t *testing.T) {
	r := newRig(t)
	for name, query := range map[string]string{
		"alone":             "access_token=%s",
		"among others":      "a=b&access_token=%s&c=d",
		"escaped":           "a=b&access%%5Ftoken=%s",
		"upper case":        "ACCESS_TOKEN=%s",
		"semicolon":         "a=b;access_token=%s",
		"empty":             "access_token=",
		"without a value":   "access_token",
		"PHP's dot":         "access.token=%s",
		"PHP's blank":       "access+token=%s",
		"array":             "access_token[]=%s",
		"escaped array":     "access_token%%5B0%%5D=%s",
		"long s":            "acce%%C5%%BFs_token=%s",
		"second query mark": "a?access_token=%s",
	} {
		t.Run("row 61 "+name, func(t *testing.T) {
			token := r.token()
			q := Request{Method: "GET", Host: siteHost, Path: path, Query: strings.ReplaceAll(fmt.Sprintf(query, token), "%!(EXTRA string="+token+")", "")}
			refused := r.refuses(q, "request.query")
			if strings.Contains(refused.Error()+r.log.String(), token) {
				t.Error("the token is in the error or the log")
			}
		})
	}
	t.Run("row 61 other parameters", func(t *testing.T) {
		q := Request{Query: "token=a&access_tokens=b&x=access_token&_access_token=c&%zz=1"}
		if caller, err := r.check(q); caller != nil || err != nil {
			t.Errorf("%v, %v", caller, err)
		}
	})
}

func TestRow62OneHeader(t *testing.T) {
	r := newRig(t)
	r.site.Unbound = true
	token := r.unbound()
	for name, headers := range map[string][]string{
		"row 62 two":            {"Bearer " + token, "Bearer " + token},
		"row 62 bound and not":  {"DPoP " + token, "Bearer " + token},
		"row 62 Basic first":    {"Basic YTpi", "Bearer " + token},
		"row 62 Bearer first":   {"Bearer " + token, "Basic YTpi"},
		"row 62 an empty one":   {"", "Bearer " + token},
		"row 62 two of no kind": {"Basic YTpi", "Basic YTpi"},
	} {
		t.Run(name, func(t *testing.T) {
			r.refuses(Request{Host: siteHost, Authorization: headers}, "request.authorization_twice")
		})
	}
	t.Run("row 62 header and query", func(t *testing.T) {
		q := request("Bearer", token)
		q.Query = "access_token=" + token
		r.refuses(q, "request.query")
	})
}

func TestRow63Scheme(t *testing.T) {
	r := newRig(t)
	r.site.Unbound = true
	token := r.unbound()
	for _, header := range []string{"Bearer " + token, "bEaReR " + token, "BEARER   " + token} {
		t.Run("row 63 "+header[:8], func(t *testing.T) { r.accepts(Request{Method: "GET", Host: siteHost, Authorization: []string{header}}) })
	}
	for name, header := range map[string]string{
		"alone": "Bearer", "alone with a blank": "Bearer ", "two words": "Bearer a b", "comma": "Bearer,tok", "comma after": "Bearer a,b",
		"tab": "Bearer\t" + token, "leading blank": " Bearer " + token, "trailing blank": "Bearer " + token + " ", "equals": "Bearer=" + token,
		"only padding": "Bearer ==", "slash": "Bearer/" + token, "plus": "DPoP/+" + token, "padding inside": "Bearer a=b", "quotes": `Bearer "` + token + `"`, "parameter": `Bearer token="a"`,
		"NUL": "Bearer " + token + "\x00", "two headers in one": "Bearer " + token + ", Bearer " + token, "not ASCII": "Bearer é", "colon": "Bearer:" + token,
		"line break": "Bearer " + token + "\r\nX: y", "DPoP alone": "DPoP", "DPoP two words": "dpop a b",
	} {
		t.Run("row 63 "+name, func(t *testing.T) {
			r.refuses(Request{Host: siteHost, Authorization: []string{header}}, "request.authorization")
		})
	}
	for _, header := range []string{"", "Basic YTpi", "Bearerx " + token, "XBearer " + token, "Digest Bearer", "Bear er " + token, "Ｂearer " + token, "Anteroom x", "DPoPx a", "B\u212aearer x"} {
		t.Run("row 63 other scheme "+header, func(t *testing.T) {
			if caller, err := r.check(Request{Host: siteHost, Authorization: []string{header}}); caller != nil || err != nil {
				t.Errorf("%v, %v", caller, err)
			}
		})
	}
	t.Run("row 63 no header but a proof", func(t *testing.T) {
		if caller, err := r.check(Request{Host: siteHost, DPoP: []string{r.proof(token)}}); caller != nil || err != nil {
			t.Errorf("%v, %v", caller, err)
		}
	})
	t.Run("J51 too long", func(t *testing.T) {
		for _, n := range []int{jws.MaxToken + 1, 1 << 20} {
			r.refuses(request("Bearer", strings.Repeat("A", n)), "token.long")
		}
	})
}

func TestRow64Challenges(t *testing.T) {
	r := newRig(t)
	t.Run("row 64 without a token", func(t *testing.T) {
		got := r.site.Challenge("FHIR.hospital.example:443")
		where := `resource_metadata="https://fhir.hospital.example/.well-known/oauth-protected-resource"`
		if want := []string{`DPoP algs="ES256 EdDSA ES384 PS256 RS256", ` + where, `Bearer ` + where}; !slices.Equal(got, want) {
			t.Errorf("%q, want %q", got, want)
		}
		if strings.Contains(strings.Join(got, ""), "error") {
			t.Error("an error code without a token")
		}
	})
	t.Run("row 64 host that would end the string", func(t *testing.T) {
		for _, host := range []string{`a",b="`, "a\r\nX: y", "a b", "", `a\`, "a/b", "é"} {
			if got := r.site.Challenge(host); !slices.Equal(got, []string{`DPoP algs="ES256 EdDSA ES384 PS256 RS256"`, "Bearer"}) {
				t.Errorf("%q: %q", host, got)
			}
			if got := r.site.Metadata(host); got != nil {
				t.Errorf("%q: %s", host, got)
			}
		}
	})
	t.Run("row 64 invalid_token", func(t *testing.T) { r.refuses(request("Bearer", "abc"), "token.malformed") })
	t.Run("RFC 9728 metadata", func(t *testing.T) {
		r.site.Scopes = []string{"patient/Observation.rs"}
		want := `{"resource":"https://fhir.hospital.example:8443","authorization_servers":["` + r.server.url +
			`"],"scopes_supported":["patient/Observation.rs"],"bearer_methods_supported":["header"],` +
			`"dpop_signing_alg_values_supported":["ES256","EdDSA","ES384","PS256","RS256"]}`
		if got := string(r.site.Metadata("fhir.hospital.example:8443")); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	})
}

func TestRow65AccessTokens(t *testing.T) {
	r := newRig(t)
	r.site.Unbound = true
	now := r.clock.now()
	at := func(d time.Duration) int64 { return now.Add(d).Unix() }
	for name, c := range map[string]struct {
		change object
		reason string
	}{
		"row 65 iss missing":       {object{"iss": nil}, "token.iss"},
		"row 65 exp missing":       {object{"exp": nil}, "token.exp"},
		"row 65 aud missing":       {object{"aud": nil}, "token.aud"},
		"row 65 sub missing":       {object{"sub": nil}, "token.sub"},
		"row 65 client_id missing": {object{"client_id": nil}, "token.client_id"},
		"row 65 iat missing":       {object{"iat": nil}, "token.iat"},
		"row 65 jti missing":       {object{"jti": nil}, "token.jti"},
		"row 65 sub empty":         {object{"sub": ""}, "token.sub"},
		"row 65 client_id empty":   {object{"client_id": ""}, "token.client_id"},
		"row 65 client_id break":   {object{"client_id": "a\r\nb"}, "token.client_id"},
		"row 65 client_id long":    {object{"client_id": strings.Repeat("c", 256)}, "token.client_id"},
		"row 65 jti empty":         {object{"jti": ""}, "token.jti"},
		"row 65 jti long":          {object{"jti": strings.Repeat("j", 513)}, "token.jti"},
		"row 65 sub with CR":       {object{"sub": "a\rb"}, "identity.subject"},
		"row 65 sub long":          {object{"sub": strings.Repeat("s", 256)}, "identity.subject"},
		"J42 SUB":                  {object{"sub": nil, "SUB": "dana"}, "token.sub"},
		"J43 long s":               {object{"sub": nil, "ſub": "dana"}, "token.sub"},
		"J42 EXP":                  {object{"exp": nil, "Exp": at(time.Hour)}, "token.exp"},
		"J47 sub number":           {object{"sub": 1}, "token.sub"},
		"J47 sub null":             {object{"sub": null}, "token.sub"},
		"J47 client_id array":      {object{"client_id": []string{"a"}}, "token.client_id"},
		"J47 jti object":           {object{"jti": object{}}, "token.jti"},
		"J47 iss array":            {object{"iss": []string{r.server.url}}, "token.iss"},
		"J54 exp string":           {object{"exp": fmt.Sprint(at(time.Minute))}, "token.exp"},
		"J56 exp exponent":         {object{"exp": rawNumber("2e9")}, "token.exp"},
		"J56 exp fraction":         {object{"exp": rawNumber(fmt.Sprint(at(time.Minute)) + ".5")}, "token.exp"},
		"J57 exp negative":         {object{"exp": -1}, "token.exp"},
		"J57 exp 0":                {object{"exp": 0}, "token.exp"},
		"J57 exp null":             {object{"exp": null}, "token.exp"},
		"J57 exp true":             {object{"exp": true}, "token.exp"},
		"J57 exp array":            {object{"exp": []int{1}}, "token.exp"},
		"J57 exp object":           {object{"exp": object{}}, "token.exp"},
		"J58 exp 2^31":             {object{"exp": rawNumber("4294967296")}, "token.exp"},
		"J58 exp 2^53+1":           {object{"exp": rawNumber("9007199254740993")}, "token.exp"},
		"J58 exp 2^63-1":           {object{"exp": rawNumber("9223372036854775807")}, "token.exp"},
		"J58 exp 2^63":             {object{"exp": rawNumber("9223372036854775808")}, "token.exp"},
		"J58 exp of 20 digits":     {object{"exp": rawNumber("99999999999999999999")}, "token.exp"},
		"J59 exp in milliseconds":  {object{"exp": at(time.Minute) * 1000}, "token.exp"},
		"J61 exp now-60":           {object{"iat": at(-time.Hour), "exp": at(-time.Minute)}, "token.exp"},
		"J61 exp now-61":           {object{"iat": at(-time.Hour), "exp": at(-61 * time.Second)}, "token.exp"},
		"J62 nbf in 61 s":          {object{"nbf": at(61 * time.Second)}, "token.nbf"},
		"J62 nbf string":           {object{"nbf": "1"}, "token.nbf"},
		"J62 nbf null":             {object{"nbf": null}, "token.nbf"},
		"J63 iat in 61 s":          {object{"iat": at(61 * time.Second)}, "token.iat"},
		"J63 iat in 2100":          {object{"iat": rawNumber("4102444800"), "exp": rawNumber("4102444801")}, "token.iat"},
		"J64 iat after exp":        {object{"iat": at(30 * time.Second), "exp": at(20 * time.Second)}, "token.exp"},
		"J64 iat is exp":           {object{"iat": at(0), "exp": at(0)}, "token.exp"},
		"J64 a year":               {object{"exp": at(365 * 24 * time.Hour)}, "token.exp"},
		"J64 a day and a second":   {object{"exp": at(24*time.Hour + time.Second)}, "token.exp"},
		"auth_time in 61 s":        {object{"auth_time": at(61 * time.Second)}, "token.auth_time"},
		"auth_time string":         {object{"auth_time": "1"}, "token.auth_time"},
		"acr number":               {object{"acr": 1}, "token.acr"},
		"acr with CR":              {object{"acr": "a\rb"}, "identity.acr"},
		"amr string":               {object{"amr": "pwd"}, "token.amr"},
		"amr null":                 {object{"amr": null}, "token.amr"},
		"amr of numbers":           {object{"amr": []int{1}}, "token.amr"},
		"amr empty member":         {object{"amr": []string{""}}, "identity.amr"},
		"scope number":             {object{"scope": 1}, "token.scope"},
		"scope null":               {object{"scope": null}, "token.scope"},
		"scope of objects":         {object{"scope": []object{{}}}, "token.scope"},
		"cnf null":                 {object{"cnf": null}, "token.cnf"},
		"cnf empty":                {object{"cnf": object{}}, "token.cnf"},
		"cnf string":               {object{"cnf": "x"}, "token.cnf"},
		"cnf of another kind":      {object{"cnf": object{"jwk": object{"kty": "EC"}}}, "token.cnf"},
		"cnf kid":                  {object{"cnf": object{"kid": "k"}}, "token.cnf"},
		"cnf jkt empty":            {object{"cnf": object{"jkt": ""}}, "token.cnf"},
		"cnf jkt padded":           {object{"cnf": object{"jkt": thumbprint(r.client) + "="}}, "token.cnf"},
		"cnf jkt number":           {object{"cnf": object{"jkt": 1}}, "token.cnf"},
		"cnf jkt short":            {object{"cnf": object{"jkt": "AAAA"}}, "token.cnf"},
		"cnf jkt and unknown":      {object{"cnf": object{"jkt": thumbprint(r.client), "x": thumbprint(r.client)}}, "token.cnf"},
		"cnf of a session":         {object{"cnf": object{"ctx#S256": thumbprint(r.client)}}, "token.cnf"},
		"name object":              {object{"name": object{}}, "name.type"},
		"email array":              {object{"email": []string{"a"}}, "email.type"},
		"name with NUL":            {object{"name": "a\u0000b"}, "identity.name"},
		"roles object":             {object{"roles": object{"$ne": ""}}, "roles.type"},
		"roles true":               {object{"roles": true}, "roles.type"},
		"patient number":           {object{"patient": 1}, "token.patient"},
		"patient path":             {object{"patient": ".."}, "token.patient"},
		"patient slash":            {object{"patient": "a/b"}, "token.patient"},
		"patient empty":            {object{"patient": ""}, "token.patient"},
		"patient long":             {object{"patient": strings.Repeat("1", 65)}, "token.patient"},
	} {
		t.Run(name, func(t *testing.T) { newRigClock(t, r).refuses(request("Bearer", r.unbound(c.change)), c.reason) })
	}
	for name, change := range map[string]object{
		"J61 exp now":        {"iat": at(-time.Hour), "exp": at(0)},
		"J61 exp now+1":      {"exp": at(time.Second)},
		"J61 exp now-59":     {"iat": at(-time.Hour), "exp": at(-59 * time.Second)},
		"J62 nbf in 60 s":    {"nbf": at(time.Minute)},
		"J63 iat in 60 s":    {"iat": at(time.Minute), "exp": at(time.Hour)},
		"J64 a day":          {"exp": at(24 * time.Hour)},
		"J37 unknown claims": {"foo": []any{1, nil, object{}}},
		"J52 many claims":    {"x": slices.Repeat([]string{"abcdef"}, 500)},
		"acr null":           {"acr": null},
		"patient null":       {"patient": null},
	} {
		t.Run("accepted "+name, func(t *testing.T) { newRigClock(t, r).accepts(request("Bearer", r.unbound(change))) })
	}
}

// newRigClock is the same rig for a subtest's own errors.
func newRigClock(t *testing.T, r *rig) *rig {
	copied := *r
	copied.t = t
	return &copied
}

type rawNumber string

func (n rawNumber) MarshalJSON() ([]byte, error) { return []byte(n), nil }

// Row 65: an ID token is no access token; neither is anything else.
func TestRow65J68OtherKinds(t *testing.T) {
	r := newRig(t)
	r.site.Unbound = true
	payload := text(changed(r.claims(), object{"cnf": nil}))
	for _, typ := range []string{"", "JWT", "jwt", "id_token+jwt", "logout+jwt", "secevent+jwt", "dpop+jwt", "anteroom+jwt", "anteroom-assertion+jwt", "at+jwt ", "text/at+jwt", "at", "token-introspection+jwt"} {
		t.Run("J31 row 65 typ "+typ, func(t *testing.T) {
			header := text(object{"alg": "ES256", "kid": "k1", "typ": typ})
			if typ == "" {
				header = `{"alg":"ES256","kid":"k1"}`
			}
			newRigClock(t, r).refuses(request("Bearer", signed(r.server.key, header, payload)), "token.typ")
		})
	}
	for _, typ := range []string{"at+jwt", "AT+JWT", "application/at+jwt", "Application/At+Jwt"} {
		t.Run("J31 accepted "+typ, func(t *testing.T) {
			newRigClock(t, r).accepts(request("Bearer", signed(r.server.key, text(object{"alg": "ES256", "kid": "k1", "typ": typ}), payload)))
		})
	}
	t.Run("row 65 an ID token", func(t *testing.T) {
		id := text(object{"iss": r.server.url, "sub": "dana", "aud": "growth-chart", "nonce": "n", "iat": r.clock.now().Unix(), "exp": r.clock.now().Unix() + 60})
		r.refuses(request("Bearer", signed(r.server.key, `{"alg":"ES256","kid":"k1"}`, id)), "token.typ")
	})
	t.Run("J68 a proof as a token", func(t *testing.T) {
		proof := r.proof("x")
		r.refuses(request("DPoP", proof, proof), "token.malformed")
	})
}

func TestRow66Audience(t *testing.T) {
	r := newRig(t)
	r.site.Unbound = true
	for name, aud := range map[string]any{
		"another host": "https://other.hospital.example", "trailing slash": audience + "/", "port": audience + ":443", "prefix": "https://fhir.hospital", "path": audience + "/fhir",
		"upper case": "https://FHIR.hospital.example", "http": "http://fhir.hospital.example", "bare host": siteHost, "wildcard": "*", "empty": "", "empty array": []string{},
		"nested": []any{[]string{audience}}, "number": 1, "object": object{"a": audience}, "array without": []string{"a", "b"}, "our client id": "growth-chart",
		"array with a number": []any{audience, 1}, "too many": slices.Repeat([]string{audience}, 33), "blank": " " + audience, "look-alike": "https://fhir.hospital.exаmple", "null": null,
	} {
		t.Run("row 66 J66 "+name, func(t *testing.T) {
			newRigClock(t, r).refuses(request("Bearer", r.unbound(object{"aud": aud})), "token.aud")
		})
	}
	t.Run("row 66 token for A at B", func(t *testing.T) {
		q := request("Bearer", r.unbound())
		q.Host = "other.hospital.example"
		r.refuses(q, "token.aud")
	})
	t.Run("row 66 among others", func(t *testing.T) {
		r.accepts(request("Bearer", r.unbound(object{"aud": []string{"https://x.example", audience}})))
	})
	t.Run("row 66 host in other words", func(t *testing.T) {
		for _, host := range []string{"FHIR.hospital.example", "fhir.hospital.example:443", "fhir.hospital.example:"} {
			q := request("Bearer", r.unbound())
			q.Host = host
			r.accepts(q)
		}
		for _, host := range []string{"fhir.hospital.example:8443", "fhir.hospital.example.", "", "a@fhir.hospital.example", "fhir.hospital.example/", "fhir.hospital.example:443:443"} {
			q := request("Bearer", r.unbound())
			q.Host = host
			r.refuses(q, "token.aud")
		}
	})
	t.Run("row 66 configured", func(t *testing.T) {
		r.site.Audience = "urn:hospital:fhir"
		r.refuses(request("Bearer", r.unbound()), "token.aud")
		r.accepts(request("Bearer", r.unbound(object{"aud": "urn:hospital:fhir"})))
	})
}

// Row 67: who it is comes from iss and sub only.
func TestRow67Identity(t *testing.T) {
	t.Run("row 67 the username is the subject unless the configuration says otherwise", func(t *testing.T) {
		r := newRig(t)
		r.site.Unbound = true
		caller := r.accepts(request("Bearer", r.unbound(object{"preferred_username": "admin", "username": "admin", "email": "a@b.example", "name": " Dana "})))
		if caller.Username != "f:1:dana" || caller.Subject != "f:1:dana" || caller.Name != "Dana" || caller.Email != "a@b.example" {
			t.Errorf("%+v", caller)
		}
	})
	t.Run("row 67 configured claim and prefix", func(t *testing.T) {
		r := newRig(t, func(c *Config) { c.Username, c.UsernamePrefix, c.Roles = "acct.login", "p-", "realm_access.roles" })
		r.site.Unbound = true
		caller := r.accepts(request("Bearer", r.unbound(object{"acct": object{"login": "dana"}, "realm_access": object{"roles": []string{"grp-all", "admin", "grp-physicians", "GRP-ALL"}}})))
		if caller.Username != "p-dana" || !slices.Equal(caller.Roles, []string{"doctor", "staff"}) || r.issuer.UsernamePrefix() != "p-" {
			t.Errorf("%+v", caller)
		}
		r.refuses(request("Bearer", r.unbound()), "username.missing")
		r.refuses(request("Bearer", r.unbound(object{"acct": object{"login": 1}})), "username.type")
		r.refuses(request("Bearer", r.unbound(object{"acct": object{"login": "dana\u200b"}})), "identity.username")
		r.refuses(request("Bearer", r.unbound(object{"acct": object{"login": "dana "}})), "identity.username")
	})
	t.Run("row 67 an address that nobody checked", func(t *testing.T) {
		r := newRig(t, func(c *Config) { c.Username = "email" })
		r.site.Unbound = true
		r.accepts(request("Bearer", r.unbound(object{"email": "a@b.example", "email_verified": true})))
		r.refuses(request("Bearer", r.unbound(object{"email": "a@b.example"})), "username.unverified")
		r.refuses(request("Bearer", r.unbound(object{"email": "a@b.example", "email_verified": false})), "username.unverified")
	})
	t.Run("J46 roles that only look alike", func(t *testing.T) {
		r := newRig(t)
		r.site.Unbound = true
		caller := r.accepts(request("Bearer", r.unbound(object{"roles": []string{"GRP-PHYSICIANS", "grp-physicians ", "grp-physicians\u0000", "ｇrp-physicians", "doctor"}})))
		if len(caller.Roles) != 0 {
			t.Errorf("roles %q", caller.Roles)
		}
		if caller = r.accepts(request("Bearer", r.unbound(object{"roles": "grp-physicians", "email": "a@b.example", "email_verified": "false"}))); !slices.Equal(caller.Roles, []string{"doctor"}) || caller.Email != "" {
			t.Errorf("%+v", caller)
		}
	})
}

// Row 68: what is needed to decide about step-up is told.
func TestRow68Level(t *testing.T) {
	r := newRig(t)
	r.site.Unbound = true
	at := r.clock.now().Add(-time.Hour)
	caller := r.accepts(request("Bearer", r.unbound(object{"acr": "urn:gold", "amr": []string{"pwd", "otp"}, "auth_time": at.Unix()})))
	if caller.ACR != "urn:gold" || !slices.Equal(caller.AMR, []string{"pwd", "otp"}) || !caller.AuthTime.Equal(at) {
		t.Errorf("%+v", caller)
	}
	if caller = r.accepts(request("Bearer", r.unbound())); caller.ACR != "" || caller.AMR != nil || !caller.AuthTime.IsZero() {
		t.Errorf("%+v", caller)
	}
}

func TestRow74Scopes(t *testing.T) {
	r := newRig(t)
	r.site.Unbound = true
	for name, c := range map[string]struct {
		scope any
		want  []string
	}{
		"row 74 string":              {"patient/Observation.rs launch/patient", []string{"patient/Observation.rs", "launch/patient"}},
		"row 74 array is tolerated":  {[]string{"a", "b"}, []string{"a", "b"}},
		"row 74 array of one":        {[]string{"a"}, []string{"a"}},
		"row 74 two in one member":   {[]string{"a b", "c"}, []string{"c"}},
		"row 74 blanks":              {"  a   b  ", []string{"a", "b"}},
		"row 74 empty":               {"", nil},
		"row 74 twice":               {"a a", []string{"a"}},
		"row 74 case kept":           {"Patient/Observation.RS", []string{"Patient/Observation.RS"}},
		"row 74 tab is no separator": {"a\tb c", []string{"c"}},
		"row 74 no-break space":      {"a\u00a0b c", []string{"c"}},
		"row 74 quotes":              {`a"b c\d e`, []string{"e"}},
		"row 74 not ASCII":           {"é pätient/*.rs f", []string{"f"}},
		"row 74 line break":          {"a\nb", nil},
		"row 74 constraint":          {"patient/Observation.rs?category=x|y", []string{"patient/Observation.rs?category=x|y"}},
	} {
		t.Run(name, func(t *testing.T) {
			caller := newRigClock(t, r).accepts(request("Bearer", r.unbound(object{"scope": c.scope})))
			if !slices.Equal(caller.Scopes, c.want) {
				t.Errorf("%q, want %q", caller.Scopes, c.want)
			}
		})
	}
	t.Run("row 74 absent", func(t *testing.T) {
		if caller := r.accepts(request("Bearer", r.unbound(object{"scope": nil, "scp": "admin", "scopes": "admin"}))); caller.Scopes != nil {
			t.Errorf("%q", caller.Scopes)
		}
	})
	t.Run("row 74 very many", func(t *testing.T) {
		r.refuses(request("Bearer", r.unbound(object{"scope": strings.Repeat("a ", 600)})), "token.scope")
	})
}

func TestRow75Patient(t *testing.T) {
	r := newRig(t)
	r.site.Unbound = true
	if caller := r.accepts(request("Bearer", r.unbound(object{"patient": "Ab-1.2"}))); caller.Patient != "Ab-1.2" {
		t.Errorf("%+v", caller)
	}
	if caller := r.accepts(request("Bearer", r.unbound(object{"Patient": "a", "launch_response_patient": "b"}))); caller.Patient != "" {
		t.Errorf("%+v", caller)
	}
}

func TestRow71Downgrade(t *testing.T) {
	r := newRig(t)
	r.site.Unbound = true // even then
	token := r.token()
	t.Run("row 71 bound token as Bearer", func(t *testing.T) { r.refuses(request("Bearer", token), "token.bound") })
	t.Run("row 71 bound token as Bearer with a proof", func(t *testing.T) { r.refuses(request("Bearer", token, r.proof(token)), "token.bound") })
	t.Run("row 71 without a proof", func(t *testing.T) { r.refuses(request("DPoP", token), "dpop.missing") })
	t.Run("row 71 an empty proof", func(t *testing.T) { r.refuses(request("DPoP", token, ""), "dpop.malformed") })
	t.Run("row 71 unbound token as DPoP", func(t *testing.T) {
		unbound := r.unbound()
		r.refuses(request("DPoP", unbound, r.proof(unbound)), "token.unbound")
	})
	t.Run("row 71 unbound where it may not be", func(t *testing.T) {
		r.site.Unbound = false
		r.refuses(request("Bearer", r.unbound()), "token.unbound")
	})
}
