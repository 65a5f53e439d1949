package integration

import (
	"fmt"
	"strings"
	"testing"
)

// Published advisories of systems of this kind, and the request that would have shown each (part 6-A, groups T:path, T:fwd and
// T:hdr). The subtests carry their numbers; those without a number are called no-id.

// advised is the standard configuration with a few more sites.
const advised = standard + `
third.test:$PORT {
	tls $CERT $KEY
	anteroom {
		allow any
		deny any /f/*/secret /key /admin
	}
	reverse_proxy $DUMP
}

hmac.test:$PORT {
	tls $CERT $KEY
	anteroom {
		allow public /inside/** network 10.0.0.0/8,192.168.7.7,2001:db8::/32
		allow any /outside/**
	}
	reverse_proxy $DUMP
}
`

// closedAs are targets of the standard site that nobody but an administrator may reach, however they are read.
var closedAs = map[string][]string{
	"CVE-2025-54576": {"/admin?x=/public", "/admin/x?/public/", "/admin?/public/x", "/admin/x?x=/.anteroom/login"},
	"CVE-2026-41059": {"/admin%23/public", "/admin/%23/../public", "/admin#/public", "/admin/x%23.css"},
	"CVE-2023-47106": {"/a#/../admin", "/public/#/../admin/x", "/public#/../admin", "#/admin"},
	"CVE-2026-40912": {"/public/%2f../admin", "/public%2f..%2fadmin", "/%2fadmin", "/public/..%2fadmin"},
	"CVE-2026-27587": {"/ADMIN/%2E", "/ADMIN/%2e%2E", "/Admin/%78", "/%41DMIN/x", "/admin/%2e"},
	"caddy-7941":     {"/public/..%2fadmin", "/public/..%2Fadmin", "/public/x%2f..%2f..%2fadmin"},
	"CVE-2026-52844": {"/public/..%5cadmin", "/public/..%5Cadmin", `/public/..\admin`, "/public%5c..%5cadmin"},
	"CVE-2026-27590": {"/adm%C4%B0n", "/adm%C4%B1n/x", "/ADM\u0130N", "/%E2%84%AAadmin", "/admin/\u212a\u0130\u0130\u0130", "/admin/%C4%B0%C4%B0%C4%B0.php/x"},
	"CVE-2021-39206": {"/public/../admin#x", "/public/./../admin", "/public/%2e%2e/admin#", "/public//../admin/x"},
	"CVE-2026-73551": {"/user/..;foo=bar/admin", "/public/..;foo=bar/admin", "/public/..;/admin", "/public/%2e%2e;x=y/admin"},
	"CVE-2026-73553": {"/admin;x=y", "/admin;x=y/x", "/admin/x;x=y", "/;x=y/admin", "/admin/;x=y"},
	"CVE-2026-26205": {"//admin/x", "//app.test/admin/x", "///admin", "//evil.example/admin"},
	"CVE-2026-33494": {"/public/../admin", "/public/x/../../admin/x", "/public/./../admin", "/.anteroom/../admin"},
	"CVE-2021-32637": {"/%zz", "/admin%", "/public/%", "/admin%00", "/public/\x00/admin", "/admin%ff", "/admin/\xff", "/%c0%ae%c0%ae/admin"},
	"no-id-1":        {"/public/..", "/ADMIN", "/public%2f..%2fadmin", "/public/x?/../admin#/public", "/publicadmin/x", "/admin/../public/x"},
}

func TestAdvisories(t *testing.T) {
	r := newRig(t, advised)
	dana := r.person(t, appHost, "dana")
	for id, targets := range closedAs {
		for _, target := range targets {
			for _, who := range []*session{nil, dana} {
				t.Run(fmt.Sprintf("%s %q as %s", id, target, name(who)), func(t *testing.T) {
					want := []int{400, 401}
					if who != nil {
						want = []int{400, 403}
					}
					if _, got := r.attack(t, row{payload: r.ask(target, who), who: who, want: want}); len(got) > 0 {
						t.Errorf("forwarded: %q", got[0].Head)
					}
				})
			}
		}
	}
	t.Run("sites", func(t *testing.T) { advisedSites(t, r) })
	t.Run("forwarded", func(t *testing.T) { forwardedAdvisories(t, r, dana) })
	t.Run("headers", func(t *testing.T) { headerAdvisories(t, r) })
}

// at is a request to any site.
func (r *rig) at(host, method, target string, who *session, extra ...string) string {
	if who != nil {
		extra = append(extra, who.line())
	}
	return request(method, target, r.authority(host), "", append(extra, "Connection: close")...)
}

// refusedAt sends a request that must not reach the application.
func (r *rig) refusedAt(t *testing.T, host, payload string, who *session, want ...int) *exchange {
	t.Helper()
	e, got := r.attack(t, row{payload: payload, host: host, who: who, want: want})
	if len(got) > 0 {
		t.Errorf("forwarded: %q", got[0].Head)
	}
	return e
}

func advisedSites(t *testing.T, r *rig) {
	third, wider := r.person(t, thirdHost, "dana"), r.person(t, wideHost, "dana")
	for _, segment := range []string{"*", "!", "'", "(", ")", "**", "%7Buser%7D", "$", "+", "a|b", "[a-z]", "%2A"} {
		t.Run("CVE-2025-46821 "+segment, func(t *testing.T) {
			r.refusedAt(t, thirdHost, r.at(thirdHost, "GET", "/f/"+segment+"/secret", third), third, 400, 403)
		})
	}
	for _, target := range []string{"/KEY", "/ADMIN", "/%4bey", "/admin/", "/%61DMIN"} {
		t.Run("CVE-2026-27590 CVE-2026-27587 "+target, func(t *testing.T) {
			r.refusedAt(t, thirdHost, r.at(thirdHost, "GET", target, third), third, 403)
		})
	}
	for _, target := range []string{"/SECRET/x", "/secret/%2E", "/%53ecret/%78", "/secret"} {
		t.Run("CVE-2026-27587 "+target, func(t *testing.T) {
			r.refusedAt(t, wideHost, r.at(wideHost, "GET", target, wider), wider, 400, 403)
		})
	}
	for _, host := range []string{"APP.TEST", "App.Test", "aPP.tEST"} {
		t.Run("CVE-2026-48794 "+host, func(t *testing.T) {
			r.refusedAt(t, appHost, r.at(host, "GET", "/admin/x", nil), nil, 401)
			r.refusedAt(t, wideHost, r.at(strings.ToUpper(wideHost), "GET", "/secret/x", wider), wider, 403)
		})
	}
	// CVE-2024-21494: where somebody is, is where the connection comes from.
	for _, forged := range []string{"X-Forwarded-For: 10.1.2.3", "X-Forwarded-For: 10.1.2.3, 10.1.2.4, 10.1.2.5", "X-Forwarded-For: 192.168.7.7:443", "X-Forwarded-For: [2001:db8::1]:443",
		"X-Forwarded-For: 2001:db8::1", "X-Real-IP: 10.1.2.3", "True-Client-IP: 10.1.2.3", "CF-Connecting-IP: 10.1.2.3", "Forwarded: for=10.1.2.3", `Forwarded: for="[2001:db8::1]:80"`,
		"X-Client-IP: 10.1.2.3", "X-Cluster-Client-IP: 10.1.2.3", "X-Forwarded-For: ::ffff:10.1.2.3", "X_Forwarded_For: 10.1.2.3", "Client-IP: 10.1.2.3", "X-Original-Forwarded-For: 10.1.2.3"} {
		t.Run("CVE-2024-21494 "+forged, func(t *testing.T) {
			r.refusedAt(t, hmacHost, r.at(hmacHost, "GET", "/inside/x", nil, forged), nil, 401)
		})
	}
}

// spoofedPaths claim another path, host, scheme or client.
func spoofedPaths(path string) []string {
	var all []string
	for _, name := range []string{"X-Forwarded-Uri", "X-Forwarded-Path", "X-Forwarded-Prefix", "X-Forwarded-Url", "X-Original-Url", "X-Original-Uri", "X-Rewrite-Url", "X-Override-Url",
		"X-Envoy-Original-Path", "X-Envoy-Decorator-Operation", "X-Auth-Request-Redirect", "X-Replaced-Path", "X-Http-Destinationurl", "X-Proxy-Url", "X-Request-Uri", "Request-Uri", "X-Accel-Redirect", "X-Sendfile", "Destination", "X_Forwarded_Uri", "x.original.url"} {
		all = append(all, name+": "+path)
	}
	return append(all, "Forwarded: path=\""+path+"\"", "X-Forwarded-Method: GET", "X-Forwarded-Host: public.test", "X-Forwarded-Proto: https", "X-Forwarded-For: 127.0.0.1", "Referer: https://app.test"+path)
}

func forwardedAdvisories(t *testing.T, r *rig, dana *session) {
	for _, id := range []string{"CVE-2026-40575", "CVE-2026-33495"} {
		all := append(spoofedPaths("/public/x"), spoofedPaths("/.anteroom/login")...)
		for _, line := range append(all, strings.Join(all, "\r\n")) {
			t.Run(fmt.Sprintf("%s P21 %.60s", id, line), func(t *testing.T) {
				r.refusedAt(t, appHost, r.ask("/admin/x", nil, line), nil, 401)
				r.refusedAt(t, appHost, r.ask("/admin/x", dana, line), dana, 403)
			})
		}
	}
	for _, line := range spoofedPaths("/admin/x") {
		t.Run("P21 open stays open "+line, func(t *testing.T) {
			_, got := r.attack(t, row{payload: r.ask("/public/x", nil, line), targets: []string{"/public/x"}, want: []int{200}})
			for _, received := range got {
				if strings.Contains(strings.ToLower(received.Head), "forwarded-uri") || strings.Contains(strings.ToLower(received.Head), "original-u") || strings.Contains(strings.ToLower(received.Head), "rewrite-url") {
					t.Errorf("the application received\n%s", received.Head)
				}
			}
		})
	}
	for _, agent := range probeAgents {
		t.Run("CVE-2026-34457 "+agent, func(t *testing.T) {
			r.refusedAt(t, appHost, r.ask("/admin/x", nil, "User-Agent: "+agent), nil, 401)
			r.refusedAt(t, appHost, r.ask("/members/ping", nil, "User-Agent: "+agent, "Accept: */*"), nil, 401)
		})
	}
	for _, id := range []string{"CVE-2024-21498", "CVE-2024-21499", "H4"} {
		for _, target := range []string{"/.anteroom/login/hospital", "/.anteroom/login", "/members/x"} {
			t.Run(id+" "+target, func(t *testing.T) {
				e, _ := r.attack(t, row{payload: r.ask(target, nil, "Accept: text/html", "Sec-Fetch-Mode: navigate", "X-Forwarded-Host: evil.example", "X-Forwarded-Proto: javascript", "X-Forwarded-Port: 1",
					"X-Forwarded-Scheme: javascript", "X-Scheme: http", "Front-End-Https: off", "Forwarded: host=evil.example;proto=javascript", "X-Host: evil.example", "Origin: https://evil.example"), want: []int{200, 302, 303, 401}})
				if strings.Contains(e.Raw, "evil.example") || strings.Contains(e.Raw, "javascript:") || strings.Contains(e.Raw, "redirect_uri=http%3A") {
					t.Errorf("a forwarded host or scheme is believed:\n%s", e.Raw)
				}
			})
		}
	}
	// Names that only we may use, and aliases of them.
	for _, line := range []string{"X-Envoy-Original-Path: /evil", "Anteroom-Assertion: evil", "Anteroom-Emergency: evil", "Anteroom_Assertion: evil", "anteroom.emergency: evil", "X-Forwarded-Prefix: /evil", "X_Forwarded_Prefix: /evil",
		"x.forwarded.prefix: /evil", "X-Forwarded_Prefix: /evil", "X-FORWARDED-PREFIX: /evil", "X-Forwarded-Uri: /evil", "X_Forwarded_Uri: /evil"} {
		t.Run("CVE-2023-27487 CVE-2026-35051 CVE-2026-39858 "+line, func(t *testing.T) {
			_, got := r.attack(t, row{payload: r.ask("/members/x", dana, line), targets: []string{"/members/x"}, who: dana, want: []int{200}})
			for _, received := range got {
				if strings.Contains(received.Head, "evil") && !strings.Contains(line, "Envoy") {
					t.Errorf("the application received\n%s", received.Head)
				}
			}
		})
	}
}

// probeAgents are programs that look whether something is alive. None of them is let in for its name.
var probeAgents = strings.Split(`GoogleHC/1.0|kube-probe/1.31|ELB-HealthChecker/2.0|Amazon-Route53-Health-Check-Service (ref x)|Consul Health Check|Envoy/HC|HAProxy|Pingdom.com_bot_version_1.4|UptimeRobot/2.0|StatusCake|Site24x7|NewRelicPinger/1.0|Datadog Agent/7.0|DatadogSynthetics|Prometheus/2.50.0|Blackbox Exporter/0.24|Zabbix|check_http/v2.3|Nagios-Plugins|Icinga|monit/5.33|Better Uptime Bot|Uptime-Kuma/1.23|Checkly/1.0|Azure Traffic Manager Endpoint Monitor|AlwaysOn|Load Balancer Agent|Edge Health Probe|Cloudflare-Healthchecks/1.0|Cloudflare-Traffic-Manager/1.0|Fastly/healthcheck|Akamai-Health|Varnish/healthcheck|nginx/health|Traefik/healthcheck|Caddy/healthcheck|Docker-HealthCheck|Mesos/health|Marathon|Nomad Health Check|Linkerd/probe|istio-probe|Knative-Ingress-Probe|k8s-startup-probe|GitLab-Monitor|Freshping|HetrixTools|Alibaba Cloud SLB|TencentCloudHealthCheck|Googlebot/2.1|curl/8.0|-`, "|")

func headerAdvisories(t *testing.T, r *rig) {
	dana, ada := r.person(t, appHost, "dana"), r.person(t, appHost, "admin")
	spell := map[string]func(string) string{
		"CVE-2025-64484": func(s string) string { return strings.ReplaceAll(s, "-", "_") },
		"CVE-2026-54763": func(s string) string { return strings.Replace(s, "-", "_", 1) },
		"CVE-2026-30851": func(s string) string { return s },
		"no-id-3":        strings.ToLower,
		"no-id-4":        strings.ToUpper,
	}
	for id, change := range spell {
		for _, header := range append([]string{"X-Token-User-Email", "X-Token-Subject", "X-Token-User-Roles", "OIDC-CLAIM-sub", "OIDC_CLAIM_email"}, identityHeaders...) {
			for _, method := range []string{"GET", "HEAD", "OPTIONS"} {
				t.Run(id+" I2 "+method+" "+change(header), func(t *testing.T) {
					for who, target := range map[*session]string{nil: "/public/x", ada: "/members/x"} { // ada has no email
						_, got := r.attack(t, row{payload: r.at(appHost, method, target, who, change(header)+": eve", change(header)+": admin"), targets: []string{target}, who: who, want: []int{200}})
						for _, received := range got {
							if strings.Contains(received.Head, ": eve") {
								t.Errorf("the application received\n%s", received.Head)
							}
						}
					}
				})
			}
		}
	}
	for _, header := range []string{"Remote-User", "remote-user", "REMOTE-GROUPS", "Remote-Name", "rEMOTE-eMAIL", "Anteroom-Assertion", "anteroom-assertion", "X-Forwarded-For", "Cookie", "Authorization"} {
		t.Run("CVE-2024-45410 CVE-2026-29054 GHSA-w9mr CVE-2025-48865 I9 "+header, func(t *testing.T) {
			for _, line := range []string{"Connection: " + header, "Connection: keep-alive, " + header + ",close", "connection: " + header + "\r\nConnection: close", "Proxy-Connection: " + header} {
				r.attack(t, row{payload: r.ask("/members/x", dana, line), targets: []string{"/members/x"}, who: dana, want: []int{200, 400}})
			}
		})
	}
	t.Run("values", func(t *testing.T) { valueAdvisories(t, r, dana) })
}

// valueAdvisories: a header that decides has one value, of plain characters, and none is a template.
func valueAdvisories(t *testing.T, r *rig, dana *session) {
	own := "https://" + r.authority(appHost)
	for _, extra := range [][]string{{"Origin: " + own, "Origin: https://evil.example"}, {"Origin: https://evil.example", "Origin: " + own}, {"Origin: " + own + ", https://evil.example"}, {"Origin: " + own + " https://evil.example"},
		{"Sec-Fetch-Site: same-origin", "Sec-Fetch-Site: cross-site"}, {"Sec-Fetch-Site: cross-site", "Sec-Fetch-Site: same-origin"}} {
		t.Run("CVE-2026-26308 "+strings.Join(extra, " "), func(t *testing.T) {
			r.refusedAt(t, appHost, request("POST", "/members/x", r.authority(appHost), "", append(extra, dana.line(), "Content-Length: 0")...), dana, 400, 403)
		})
	}
	for _, extra := range []string{"Origin: " + own + "\xff", "Origin: \xff" + own, "Origin: https://app.t\xc3\xa9st", "Sec-Fetch-Site: cross-site\xff", "Sec-Fetch-Site: same\xa0origin", "Origin: \x80"} {
		t.Run(fmt.Sprintf("CVE-2026-73552 %q", extra), func(t *testing.T) {
			r.refusedAt(t, appHost, request("POST", "/members/x", r.authority(appHost), "", extra, dana.line(), "Content-Length: 0"), dana, 400, 403)
		})
	}
	for _, extra := range []string{"Cookie: " + cookieToken + "=\xff; " + cookieContext + "=\xff", "Host: \xff", "Remote-User: \xff", "User-Agent: \x80\xff"} {
		t.Run(fmt.Sprintf("CVE-2026-73552 nobody with %q", extra), func(t *testing.T) {
			r.refusedAt(t, appHost, r.ask("/admin/x", nil, extra), nil, 400, 401)
		})
	}
	for _, text := range []string{"{env.HOME}", "{file./etc/passwd}", "{{env \"HOME\"}}", "{http.request.host}", "{system.hostname}", "{$HOME}", "{http.request.header.Cookie}", "{{.Cookie}}", "{env.{env.HOME}}", "{http.vars.root}"} {
		t.Run("CVE-2026-30852 GHSA-wwhq 174 "+text, func(t *testing.T) {
			target := "/members/x?a=" + strings.ReplaceAll(strings.ReplaceAll(text, " ", "%20"), `"`, "%22")
			e, got := r.attack(t, row{payload: r.ask(target, dana, "X-Own: "+text, "Referer: "+text, "User-Agent: "+text), targets: []string{target}, who: dana, want: []int{200}})
			for _, received := range got {
				if v := received.values("X-Own"); len(v) != 1 || v[0] != text {
					t.Errorf("%q arrived as %q", text, v)
				}
			}
			for _, page := range []string{"/.anteroom/", "/.anteroom/login?return_to=" + escape("/"+text), "/nothing?" + escape(text)} {
				own, _ := r.attack(t, row{payload: r.ask(page, dana, "Accept: text/html", "Referer: "+text, "User-Agent: "+text, "X-Forwarded-Host: "+text), want: []int{200, 302, 303, 400, 403}})
				e.Raw += own.Raw
			}
			if strings.Contains(e.Raw, "root:x:0:0") || strings.Contains(e.Raw, r.dir) || strings.Contains(e.Raw, dana.token) {
				t.Errorf("%q was expanded:\n%s", text, e.Raw)
			}
		})
	}
}
