package caddymodule

import (
	"fmt"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// withProvider is a config whose one provider has these lines besides its issuer.
func (b bench) withProvider(lines, more, site string) string {
	text := b.file(more, "app.test:8443 {\n\tTLS\n\tanteroom {\n\t\tallow role doctor\n"+site+"\n\t}\n\treverse_proxy 127.0.0.1:9\n}\n")
	return strings.Replace(text, "\t\t\tclient_secret {file."+b.dir+"/secret}\n", lines+"\n", 1)
}

func check(t *testing.T, caddyfile string) error {
	t.Helper()
	config, err := adapt(t, caddyfile)
	if err != nil {
		return err
	}
	return validate(t, config)
}

// TestProviderLines: each line of a provider loads as the documentation has it.
func TestProviderLines(t *testing.T) {
	b := newBench(t)
	secret := "client_secret {file." + b.dir + "/secret}\n"
	for name, lines := range map[string]string{
		"post":             secret + "client_auth post",
		"secret_jwt":       "client_secret {file." + b.write(t, "long", strings.Repeat("long secret ", 4)) + "}\nclient_auth secret_jwt",
		"key of our own":   "client_auth private_key_jwt",
		"audience":         "client_auth private_key_jwt\nassertion_audience http://127.0.0.1:9/token",
		"proxy in a file":  secret + "proxy {file." + b.write(t, "proxy", "socks5h://user:word@proxy.hospital.example:1080") + "}",
		"key file":         "client_auth private_key_jwt " + b.dir + "/tls.key",
		"tls":              "client_auth tls " + b.dir + "/tls.pem " + b.dir + "/tls.key",
		"self signed":      "client_auth self_signed_tls " + b.dir + "/tls.pem " + b.dir + "/tls.key",
		"fapi2":            "client_auth private_key_jwt\nprofile fapi2",
		"what is asked":    secret + "scopes openid profile groups\nacr_values urn:a urn:b\nmax_age 8h\nprompt select_account\nparameter hd hospital.example\nparameter x y\npar\nresponse_mode form_post",
		"how it is asked":  secret + "hosts keys.hospital.example\nca_file " + b.dir + "/tls.pem\nproxy http://proxy.hospital.example:3128",
		"what is believed": secret + "userinfo signed\nid_token_algs ES256\nmay_give doctor patient\nname_claim given_name\nemail_claim mail\norg_claim org.name\nemail_domains hospital.example",
		"while it lasts":   secret + "refresh off\non_provider_loss running_sessions 30m\nlogout_token typed",
		"no patience":      secret + "on_provider_loss deny\nuserinfo off",
	} {
		t.Run(name, func(t *testing.T) {
			if err := check(t, b.withProvider(lines, "", "")); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestRefusedProviderLines: a mistake is answered by what to write instead.
func TestRefusedProviderLines(t *testing.T) {
	b := newBench(t)
	secret := "client_secret {file." + b.dir + "/secret}\n"
	for name, c := range map[string]struct{ lines, want string }{
		"no secret":              {"", "client_secret"},
		"secret and key":         {secret + "client_auth private_key_jwt", "remove one of the two"},
		"unknown client auth":    {secret + "client_auth magic", "private_key_jwt [KEYFILE]"},
		"tls without a key":      {"client_auth tls " + b.dir + "/tls.pem", "tls CERT KEY"},
		"unknown profile":        {secret + "profile fapi1", "profile fapi2"},
		"fapi2 with a secret":    {secret + "profile fapi2", "private_key_jwt"},
		"fragment mode":          {secret + "response_mode fragment", "form_post"},
		"implicit flow":          {secret + "response_type token", "unrecognized line"},
		"prompt none":            {secret + "prompt none", "prompt"},
		"reserved parameter":     {secret + "parameter redirect_uri https://evil.example", "redirect_uri"},
		"parameter twice":        {secret + "parameter a b\nparameter a c", "twice"},
		"parameter without":      {secret + "parameter a", "parameter NAME VALUE"},
		"no algorithm":           {secret + "id_token_algs none", "none"},
		"shared secret":          {secret + "id_token_algs HS256", "HS256"},
		"max_age":                {secret + "max_age soon", "max_age"},
		"userinfo":               {secret + "userinfo on", "userinfo signed"},
		"refresh":                {secret + "refresh on", "refresh off"},
		"loss":                   {secret + "on_provider_loss running_sessions", "running_sessions 1h"},
		"loss too long":          {secret + "on_provider_loss running_sessions 48h", "24h"},
		"role not trusted":       {secret + "may_give patient", "may_give"},
		"CA file without":        {secret + "ca_file " + b.dir + "/secret", "no certificate"},
		"missing CA file":        {secret + "ca_file " + b.dir + "/nothing.pem", "ca_file"},
		"missing key":            {"client_auth private_key_jwt " + b.dir + "/nothing.key", "client_auth"},
		"missing secret":         {"client_secret {file." + b.dir + "/nothing}", "client_secret"},
		"logout token":           {secret + "logout_token any", "logout_token typed"},
		"domain with an address": {secret + "email_domains ann@hospital.example", "email_domains"},
	} {
		t.Run(name, func(t *testing.T) {
			err := check(t, b.withProvider(c.lines, "", ""))
			if err == nil {
				t.Fatal("it loads")
			}
			if !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "Caddyfile:") {
				t.Errorf("the message lacks %q or its place:\n%v", c.want, err)
			}
			if strings.Contains(err.Error(), "a-client-secret-of-the-tests") {
				t.Errorf("the message holds the secret:\n%v", err)
			}
		})
	}
}

// second is another provider, whose secret is or is not there.
func second(secret string) string {
	return fmt.Sprintf("\t\tidentity oidc clinic {\n\t\t\tissuer http://127.0.0.1:10\n\t\t\tclient_id anteroom\n\t\t\tclient_secret {file.DIR/%s}\n\t\t\tusername_prefix clinic:\n\t\t}\n\t\tsession {", secret)
}

// TestBrokenProvider: what one provider lacks on this machine keeps the others neither from loading nor from running; when
// there is no other, the config is refused.
func TestBrokenProvider(t *testing.T) {
	b := newBench(t)
	site := "app.test:8443 {\n\tTLS\n\tanteroom {\n\t\tallow role doctor\n\t}\n\treverse_proxy 127.0.0.1:9\n}\n"
	text := strings.Replace(b.file("", site), "\t\tsession {", strings.ReplaceAll(second("nothing"), "DIR", b.dir), 1)
	if err := check(t, text); err != nil {
		t.Errorf("one provider of two lacks its secret: %v", err)
	}
	both := strings.Replace(text, b.dir+"/secret", b.dir+"/nothing", 1)
	if err := check(t, both); err == nil || !strings.Contains(err.Error(), "nobody could sign in") || !strings.Contains(err.Error(), "clinic") {
		t.Errorf("both lack it: %v", err)
	}
}

// TestBearerLines: which tokens a site accepts is said in words, and a rule about scopes needs them.
func TestBearerLines(t *testing.T) {
	b := newBench(t)
	apps := "\t\tbearer apps {\n\t\t\tissuer https://as.hospital.example\n\t\t\tusername_prefix app:\n\t\t}\n"
	scope := "allow scope patient/Patient.r GET /Patient/{patient}\n"
	for name, c := range map[string]struct{ issuers, site, want string }{
		"as documented":            {apps, scope + "bearer from apps\nbearer audience https://fhir.hospital.example\nbearer unbound allow", ""},
		"with introspection":       {strings.Replace(apps, "username_prefix", "introspect https://as.hospital.example/introspect\nclient_id a\nclient_secret {file.DIR/secret}\nusername_prefix", 1), scope + "bearer from apps", ""},
		"unknown issuer":           {apps, scope + "bearer from others", "it has: apps"},
		"rules without tokens":     {apps, scope, "bearer from NAME"},
		"tokens without rules":     {apps, "bearer from apps", "allow scope"},
		"audience alone":           {apps, "bearer audience https://x.example", "bearer from NAME"},
		"odd word":                 {apps, scope + "bearer from apps\nbearer unbound", "bearer unbound allow"},
		"audience no address":      {apps, scope + "bearer from apps\nbearer audience fhir", "absolute address"},
		"no prefix":                {strings.Replace(apps, "username_prefix app:", "", 1), scope + "bearer from apps", "username_prefix apps:"},
		"name of a provider":       {strings.Replace(apps, "bearer apps", "bearer idp", 1), scope + "bearer from idp", "taken"},
		"secret without address":   {strings.Replace(apps, "username_prefix", "client_id a\nusername_prefix", 1), scope + "bearer from apps", "belong together"},
		"same issuer and claim":    {strings.NewReplacer("username_prefix app:", "username_claim preferred_username", "https://as.hospital.example", "http://127.0.0.1:9").Replace(apps), scope + "bearer from apps", ""},
		"same issuer, other claim": {strings.NewReplacer("username_prefix app:", "", "https://as.hospital.example", "http://127.0.0.1:9").Replace(apps), scope + "bearer from apps", "username_prefix apps:"},
		"one issuer twice":         {apps + strings.Replace(apps, "bearer apps", "bearer more", 1), scope + "bearer from apps more", "the same issuer"},
		"no issuer":                {"\t\tbearer apps {\n\t\t\tusername_prefix app:\n\t\t}\n", scope + "bearer from apps", "issuer"},
	} {
		t.Run(name, func(t *testing.T) {
			text := b.withProvider("client_secret {file."+b.dir+"/secret}", "", c.site)
			text = strings.Replace(text, "\t\tsession {", strings.ReplaceAll(c.issuers, "DIR", b.dir)+"\t\tsession {", 1)
			err := check(t, text)
			switch {
			case c.want == "" && err != nil:
				t.Error(err)
			case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
				t.Errorf("the message lacks %q: %v", c.want, err)
			}
		})
	}
}

// TestJournalFile: what was saved is read again, also by the next process, and nothing to keep is no file.
func TestJournalFile(t *testing.T) {
	j := journalFile{filepath.Join(t.TempDir(), "new", "ended.journal")}
	if text, err := j.Load(); text != nil || err != nil {
		t.Fatalf("before anything was saved: %q, %v", text, err)
	}
	for _, want := range []string{"one", "two, longer"} {
		if err := j.Save([]byte(want)); err != nil {
			t.Fatal(err)
		}
		if text, err := (journalFile{j.path}).Load(); string(text) != want || err != nil {
			t.Errorf("read %q, %v; saved %q", text, err, want)
		}
	}
	info, err := os.Stat(j.path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	for range 2 {
		if err := j.Save(nil); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := os.Stat(j.path); !os.IsNotExist(err) {
		t.Errorf("an empty journal is a file: %v", err)
	}
}

// TestResourceServerAlone: a site for programs only needs no way to sign in; one for people does.
func TestResourceServerAlone(t *testing.T) {
	b := newBench(t)
	site := func(lines string) string {
		return "app.test:8443 {\n\tTLS\n\tanteroom {\n" + lines + "\n\t}\n\treverse_proxy 127.0.0.1:9\n}\n"
	}
	text := b.file("", site("allow scope system/Observation.rs GET /fhir/**\nbearer from apps"))
	i, j := strings.Index(text, "\t\tidentity oidc"), strings.Index(text, "\t\tsession {")
	apps := "\t\tbearer apps {\n\t\t\tissuer https://as.hospital.example\n\t\t}\n"
	if err := check(t, text[:i]+apps+text[j:]); err != nil {
		t.Error(err)
	}
	text = b.file("", site("allow role doctor"))
	i, j = strings.Index(text, "\t\tidentity oidc"), strings.Index(text, "\t\tsession {")
	if err := check(t, text[:i]+apps+text[j:]); err == nil || !strings.Contains(err.Error(), "nobody could sign in") {
		t.Errorf("a site for people: %v", err)
	}
}

// TestBrokenBearer: what one issuer of tokens lacks on this machine stops nothing else; its tokens are an outage, and a request
// without one is as ever.
func TestBrokenBearer(t *testing.T) {
	b := newBench(t)
	apps := "\t\tbearer apps {\n\t\t\tissuer https://as.hospital.example\n\t\t\tusername_prefix app:\n\t\t\tintrospect https://as.hospital.example/i\n\t\t\tclient_id a\n\t\t\tclient_secret {file." + b.dir + "/nothing}\n\t\t}\n"
	text := b.withProvider("client_secret {file."+b.dir+"/secret}", "", "allow scope x GET /fhir/**\nbearer from apps")
	if err := check(t, strings.Replace(text, "\t\tsession {", apps+"\t\tsession {", 1)); err != nil {
		t.Errorf("an issuer lacks its secret: %v", err)
	}
	r := httptest.NewRequest("GET", "https://app.test/fhir/x", nil)
	if c, err := (noTokens{}).Check(r); c != nil || err != nil {
		t.Errorf("without a token: %v, %v", c, err)
	}
	r.Header.Set("Authorization", "Bearer x")
	if c, err := (noTokens{}).Check(r); c != nil || err == nil {
		t.Errorf("with one: %v, %v", c, err)
	}
}

// TestBrokenProviderBesideItsTokens: a provider that lacks its secret is still the issuer whose tokens name the same people.
func TestBrokenProviderBesideItsTokens(t *testing.T) {
	b := newBench(t)
	text := b.withProvider("client_secret {file."+b.dir+"/nothing}", "", "allow scope x GET /fhir/**\nbearer from apps")
	apps := "\t\tbearer apps {\n\t\t\tissuer http://127.0.0.1:9\n\t\t\tusername_claim preferred_username\n\t\t}\n"
	text = strings.Replace(text, "\t\tsession {", apps+strings.ReplaceAll(second("secret"), "DIR", b.dir), 1)
	if err := check(t, text); err != nil {
		t.Error(err)
	}
}
