package integration

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// Configurations as an operator writes them, through the binary's own commands. caddymodule tests each rule on its own and in
// both orders of loading; here it counts that `validate` and `run` say no, where, and what to write instead.

const (
	gatedSite = "app.test:$PORT {\n\ttls $CERT $KEY\n\tanteroom {\n\t\tallow role doctor\n\t}\n\treverse_proxy $DUMP\n}\n"
	before    = "{" + globals + "\n\tanteroom {" + hospital + "\t}\n}\n"
)

func TestRefusedConfigs(t *testing.T) {
	r := prepare(t, standard)
	inSite := func(line string) string {
		return before + strings.Replace(gatedSite, "\treverse_proxy $DUMP\n", line+"\n\treverse_proxy $DUMP\n", 1)
	}
	cases := map[string]struct {
		caddyfile string
		want      []string // what the message must contain; "@" stands for the file and a line of it
	}{
		"no allow line":               {before + strings.Replace(gatedSite, "allow role", "deny role", 1), []string{"@", "allow"}},
		"P18 percent in a pattern":    {before + strings.Replace(gatedSite, "allow role doctor", "allow role doctor /a%20b", 1), []string{"@", "%"}},
		"policy line misspelt":        {before + strings.Replace(gatedSite, "role doctor", "rolle doctor", 1), []string{"@", "rolle", "role"}},
		"lower-case method":           {before + strings.Replace(gatedSite, "role doctor", "role doctor get", 1), []string{"@", "GET"}},
		"no global option":            {"{" + globals + "}\n" + gatedSite, []string{"@", "global option"}},
		"nobody can sign in":          {"{" + globals + "\tanteroom {\n\t}\n}\n" + gatedSite, []string{"identity oidc"}},
		"unknown global line":         {strings.Replace(before, "anteroom {", "anteroom {\n\t\tcolour blue", 1) + gatedSite, []string{"@", "colour"}},
		"store of a later version":    {strings.Replace(before, "anteroom {", "anteroom {\n\t\tstore etcd http://127.0.0.1", 1) + gatedSite, []string{"@", "bolt, redis"}},
		"Redis elsewhere in plain":    {strings.Replace(before, "anteroom {", "anteroom {\n\t\tstore redis redis://redis.example:6379", 1) + gatedSite, []string{"@", "TLS"}},
		"missing secret file":         {strings.Replace(before, "oidc.secret", "nothing.secret", 1) + gatedSite, []string{"client_secret"}},
		"issuer over plain HTTP":      {strings.Replace(before, "issuer $OP", "issuer http://login.example", 1) + gatedSite, []string{"@", "https"}},
		"two sources, one name space": {strings.Replace(before, hospital, hospital+strings.Replace(hospital, "oidc hospital", "oidc second", 1), 1) + gatedSite, []string{"username_prefix"}},
		"TLS 1.2":                     {before + strings.Replace(gatedSite, "tls $CERT $KEY", "tls $CERT $KEY {\n\t\tprotocols tls1.2 tls1.3\n\t}", 1), []string{"app.test", "TLS 1.3"}},
		"plain HTTP":                  {before + strings.Replace(strings.Replace(gatedSite, "app.test:$PORT", "http://app.test:$HTTP_PORT", 1), "\ttls $CERT $KEY\n", "", 1), []string{"app.test", "http://"}},
		"port of http_port":           {before + strings.Replace(gatedSite, "app.test:$PORT", "https://app.test:$HTTP_PORT", 1), []string{"app.test"}},
		"P22 rewrite":                 {inSite("\trewrite * /x"), []string{"@", "rewrite", "host of its own"}},
		"P22 uri":                     {inSite("\turi strip_prefix /x"), []string{"@", "uri", "host of its own"}},
		"P22 try_files":               {inSite("\ttry_files {path} /x"), []string{"@", "host of its own"}},
		"P22 handle_path":             {inSite("\thandle_path /x/* {\n\t\treverse_proxy $DUMP\n\t}"), []string{"@", "host of its own"}},
		"P22 php_fastcgi":             {inSite("\tphp_fastcgi 127.0.0.1:9"), []string{"@"}},
		"P22 forward_auth":            {inSite("\tforward_auth 127.0.0.1:9 {\n\t\turi /x\n\t}"), []string{"@"}},
		"P22 proxy that rewrites":     {before + strings.Replace(gatedSite, "reverse_proxy $DUMP", "reverse_proxy $DUMP {\n\t\trewrite /x{uri}\n\t}", 1), []string{"@", "host of its own"}},
		"P22 intercept that rewrites": {inSite("\tintercept {\n\t\thandle_response {\n\t\t\trewrite * /admin\n\t\t\treverse_proxy $DUMP\n\t\t}\n\t}"), []string{"@"}},
		"P22 another order":           {strings.Replace(before, "admin off", "admin off\n\torder reverse_proxy before anteroom", 1) + gatedSite, []string{"@", "before"}},
		"P23 errors go to the app":    {inSite("\thandle_errors {\n\t\treverse_proxy $DUMP\n\t}"), []string{"handle_errors"}},
		"the same host, ungated":      {before + gatedSite + "http://app.test:$HTTP_PORT {\n\treverse_proxy $DUMP\n}\n", []string{"app.test"}},
		"ports with different rules":  {before + gatedSite + strings.Replace(strings.Replace(gatedSite, "$PORT", "1$PORT", 1), "role doctor", "public", 1), nil},
		"hmac without credential":     {before + "localhost:$PORT {\n\ttls $CERT $KEY\n\thmac_service {\n\t\tno_recovery\n\t}\n}\n", []string{"token_file", "compat"}},
		"hmac without recovery":       {before + "localhost:$PORT {\n\ttls $CERT $KEY\n\thmac_service {\n\t\tcompat\n\t}\n}\n", []string{"recovery", "no_recovery"}},
		"hmac with an unknown line":   {before + "localhost:$PORT {\n\ttls $CERT $KEY\n\thmac_service {\n\t\tcompat\n\t\tno_recovery\n\t\tallow_uid 1000\n\t}\n}\n", []string{"@", "peer"}},
		"hmac over plain HTTP":        {before + "http://localhost:$HTTP_PORT {\n\thmac_service {\n\t\tcompat\n\t\tno_recovery\n\t}\n}\n", []string{"@", "TLS 1.3"}},
		"session too long":            {strings.Replace(before, "anteroom {", "anteroom {\n\t\tsession {\n\t\t\tidle 1000h\n\t\t}", 1) + gatedSite, []string{"@", "idle"}},
	}
	for id, test := range cases {
		t.Run(id, func(t *testing.T) {
			caddyfile := test.caddyfile
			if id == "ports with different rules" {
				caddyfile = strings.Replace(caddyfile, "1$PORT", "18443", 1)
				test.want = []string{"differ only by port"}
			}
			res := r.validate(t, "validate", caddyfile)
			if res.code == 0 {
				t.Fatalf("the configuration is valid:\n%s\n%s", res.stderr, r.expand(caddyfile))
			}
			message := lastLine(res.stderr)
			for _, want := range test.want {
				if want == "@" {
					if !regexp.MustCompile(`Caddyfile\.checked:\d+`).MatchString(message) {
						t.Errorf("the message names no file and line:\n%s", message)
					}
				} else if !strings.Contains(message, want) {
					t.Errorf("the message lacks %q:\n%s", want, message)
				}
			}
			if strings.Contains(res.stderr, clientSecret) {
				t.Errorf("the message has a secret in it:\n%s", res.stderr)
			}
			if strings.Contains(message, "goroutine") || strings.Contains(message, "panic") {
				t.Errorf("not a message for an operator:\n%s", message)
			}
		})
	}
	t.Run("a refused configuration does not start", func(t *testing.T) {
		write(t, filepath.Join(r.dir, "Caddyfile.checked"), r.expand(cases["P22 rewrite"].caddyfile))
		res := output(t, r.env(), binary(t, "anteroom"), "run", "--config", filepath.Join(r.dir, "Caddyfile.checked"), "--adapter", "caddyfile")
		if res.code == 0 {
			t.Error("it ran")
		}
	})
}

func lastLine(s string) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	return lines[len(lines)-1]
}

// Raw JSON is the other way to write a configuration, past everything that the Caddyfile's directives see.
func TestRefusedJSON(t *testing.T) {
	r := prepare(t, standard)
	adapted := r.validate(t, "adapt", before+gatedSite)
	if adapted.code != 0 {
		t.Fatal(adapted.stderr)
	}
	if strings.Contains(adapted.stdout, clientSecret) {
		t.Error("the adapted configuration has the secret in it")
	}
	for id, change := range map[string]func(server map[string]any){
		"no TLS at all": func(s map[string]any) {
			delete(s, "tls_connection_policies")
			s["automatic_https"] = map[string]any{"disable": true}
		},
		"TLS 1.2 in a policy": func(s map[string]any) { s["tls_connection_policies"] = []any{map[string]any{"protocol_min": "tls1.2"}} },
		"TLS 1.2 at most":     func(s map[string]any) { s["tls_connection_policies"] = []any{map[string]any{"protocol_max": "tls1.2"}} },
		"secrets log": func(s map[string]any) {
			s["tls_connection_policies"] = []any{map[string]any{"insecure_secrets_log": r.dir + "/x"}}
		},
		"a proxy beside the gate":  func(s map[string]any) { s["routes"] = append([]any{proxyRoute(r)}, s["routes"].([]any)...) },
		"errors go to the app":     func(s map[string]any) { s["errors"] = map[string]any{"routes": []any{proxyRoute(r)}} },
		"listens on http_port too": func(s map[string]any) { s["listen"] = append(s["listen"].([]any), "127.0.0.1:"+r.names["$HTTP_PORT"]) },
	} {
		t.Run(id, func(t *testing.T) {
			var config map[string]any
			if err := json.Unmarshal([]byte(adapted.stdout), &config); err != nil {
				t.Fatal(err)
			}
			servers := config["apps"].(map[string]any)["http"].(map[string]any)["servers"].(map[string]any)
			for _, server := range servers {
				change(server.(map[string]any))
			}
			path := filepath.Join(r.dir, "config.json")
			write(t, path, mustJSON(config))
			res := output(t, r.env(), binary(t, "anteroom"), "validate", "--config", path)
			if res.code == 0 {
				t.Errorf("the configuration is valid:\n%s\n%s", res.stderr, mustJSON(config))
			}
		})
	}
}

func proxyRoute(r *rig) map[string]any {
	return map[string]any{"handle": []any{map[string]any{"handler": "reverse_proxy", "upstreams": []any{map[string]any{"dial": r.dump.addr}}}}}
}

// Options of the server that would open a door are overruled, whatever stands in the file.
func TestServerOptionsOpenNothing(t *testing.T) {
	servers := "\tadmin off\n\tservers {\n\t\tstrict_sni_host insecure_off\n\t\ttrace\n\t\tlog_credentials\n\t\ttrusted_proxies static 127.0.0.0/8\n\t}\n"
	r := newRig(t, strings.Replace(standard, "\tadmin off\n", servers, 1))
	dana := r.person(t, appHost, "dana")
	r.attack(t, row{id: "SNI is not Host", payload: get("/members/x", r.authority(wideHost), dana.line(), "Connection: close"), who: dana, want: []int{421}})
	r.attack(t, row{id: "spoofed", payload: r.ask("/members/x", dana, "X-Forwarded-Host: evil.example", "X-Forwarded-Proto: http", "Remote-User: eve"),
		targets: []string{"/members/x"}, who: dana, want: []int{200}})
	e, _ := r.attack(t, row{payload: r.ask("/.anteroom/login/hospital", nil, "X-Forwarded-Host: evil.example", "Accept: text/html"), want: []int{302, 303}})
	if strings.Contains(e.Raw, "evil.example") {
		t.Errorf("a trusted proxy's header moves the sign-in to another host: %s", e.Raw)
	}
}

// What may stand before the gate does, and the gate still judges every request.
func TestHarmlessDirectivesBefore(t *testing.T) {
	extra := "\theader X-Before yes\n\tmap {path} {kind} {\n\t\tdefault x\n\t}\n\tvars a b\n\trequest_body {\n\t\tmax_size 1MB\n\t}\n\tencode\n\tlog\n"
	r := newRig(t, strings.Replace(standard, "app.test:$PORT {\n", "app.test:$PORT {\n"+extra, 1))
	for target, want := range map[string]int{"/public/x": 200, "/members/x": 401, "/public/..%2fx": 400} {
		p := newBrowser(t).do(t, call(t, "GET", r.url(appHost, target), ""))
		if p.Status != want && !(want == 400 && p.Status == 400) {
			t.Errorf("%s: %d, want %d", target, p.Status, want)
		}
		if p.Header.Get("X-Before") != "yes" {
			t.Errorf("%s: the operator's header is missing", target)
		}
	}
}

// The configurations that people copy load as they stand, but for the folders of their files.
func TestPublishedConfigs(t *testing.T) {
	r := prepare(t, standard)
	key := output(t, r.env(), binary(t, "anteroom"), "keys", "ring", "recovery-key", "--out", filepath.Join(r.dir, "recovery.key"))
	if key.code != 0 {
		t.Fatal(key.stderr)
	}
	for name, content := range map[string]string{"oidc": clientSecret, "alarm": hmacToken, "hmac.token": hmacToken, "envelope.token": hmacToken, "recovery.pub": strings.TrimSpace(key.stdout)} {
		write(t, filepath.Join(r.dir, name), content)
	}
	check := func(name, caddyfile string) {
		t.Run(name, func(t *testing.T) {
			caddyfile := strings.NewReplacer("/run/secrets/", r.dir+"/", "/run/anteroom/", r.dir+"/", "/etc/anteroom/local.pem", r.names["$CERT"],
				"/etc/anteroom/local.key", r.names["$KEY"], "/etc/anteroom/", r.dir+"/", "/var/lib/anteroom", r.dir+"/lib", "/var/log/anteroom", r.dir+"/log",
				"{env.REDIS_URL}", "redis://127.0.0.1:6379", "<public key>", strings.TrimSpace(key.stdout), "role ROLE from  VALUE…", "role doctor from grp", "oidc NAME", "oidc hospital").Replace(caddyfile)
			if strings.HasPrefix(caddyfile, "anteroom {") { // a site's block alone
				caddyfile = before + "app.test:$PORT {\n" + caddyfile + "\n}\n"
			}
			if res := r.validate(t, "validate", caddyfile); res.code != 0 {
				t.Errorf("%s\n%s", lastLine(res.stderr), caddyfile)
			}
		})
	}
	b, err := os.ReadFile(filepath.Join(root, "Caddyfile.example"))
	if err != nil {
		t.Fatal(err)
	}
	check("Caddyfile.example", string(b))
	readme, err := os.ReadFile(filepath.Join(root, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	blocks := regexp.MustCompile("(?s)```caddyfile\n(.*?)```").FindAllStringSubmatch(string(readme), -1)
	if len(blocks) == 0 {
		t.Fatal("README.md shows no Caddyfile")
	}
	for i, block := range blocks {
		check("README block "+string(rune('1'+i)), block[1])
	}
	pages, err := filepath.Glob(filepath.Join(root, "docs", "*.md"))
	if err != nil || len(pages) < 2 {
		t.Fatalf("pages in docs: %v, %v", pages, err)
	}
	pages = append(pages, filepath.Join(root, "docs", "hardening", "README.md"))
	for _, page := range pages {
		b, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for i, block := range regexp.MustCompile("(?s)```caddyfile\n(.*?)```").FindAllStringSubmatch(string(b), -1) {
			text := block[1]
			if !strings.HasPrefix(text, "{") && !strings.HasPrefix(text, "anteroom {") { // a site alone
				text = before + text
			}
			check(fmt.Sprintf("%s block %d", filepath.Base(page), i+1), text)
		}
	}
}
