package integration

import (
	"fmt"
	"net/url"
	"path/filepath"
	"strings"
	"testing"
)

// CVE-2026-27588: lists of more than 100 hosts were compared with regard to case.
func TestManyHosts(t *testing.T) {
	names := []string{appHost}
	var address strings.Builder
	address.WriteString("app.test:$PORT")
	for i := range 100 {
		host := fmt.Sprintf("portal%d.test", i)
		names = append(names, host)
		address.WriteString(", " + host + ":$PORT")
	}
	cert, key := ca().issue(t, t.TempDir(), "many", nil, names...)
	r := newRig(t, strings.Replace(standard, "app.test:$PORT", address.String(), 1), "CERT", cert, "KEY", key)
	for _, host := range []string{"PORTAL99.TEST", "Portal7.Test", "portal50.test", "PORTAL0.test", "APP.TEST"} {
		t.Run("CVE-2026-27588 "+host, func(t *testing.T) {
			sni := strings.ToLower(host)
			r.refusedAt(t, sni, r.at(host, "GET", "/admin/x", nil), nil, 401)
			r.refusedAt(t, sni, r.at(host, "GET", "/nothing", nil), nil, 401)
			r.attack(t, row{payload: r.at(host, "GET", "/public/x", nil), host: sni, targets: []string{"/public/x"}, want: []int{200}})
		})
	}
}

// TestAdvisedConfigs: what others could be configured to do wrong does not load here.
func TestAdvisedConfigs(t *testing.T) {
	r := prepare(t, standard)
	behind := func(line string) string {
		return before + strings.Replace(gatedSite, "\treverse_proxy $DUMP\n", line+"\n", 1)
	}
	for id, test := range map[string]struct{ caddyfile, want string }{
		"CVE-2026-40912 handle_path":         {behind("\thandle_path /a/* {\n\t\treverse_proxy $DUMP\n\t}"), "host of its own"},
		"CVE-2026-40912 uri strip_prefix":    {behind("\turi strip_prefix /a\n\treverse_proxy $DUMP"), "host of its own"},
		"CVE-2026-40912 with encoded_slash":  {strings.Replace(behind("\thandle_path /a/* {\n\t\treverse_proxy $DUMP\n\t}"), "allow role doctor", "allow role doctor\n\t\tpaths allow encoded_slash", 1), "host of its own"},
		"CVE-2026-27587 a pattern with %":    {before + strings.Replace(gatedSite, "allow role doctor", "allow role doctor /admin/%2e", 1), "%"},
		"CVE-2026-41181 an app for errors":   {behind("\treverse_proxy $DUMP\n\thandle_errors {\n\t\treverse_proxy $DUMP\n\t}"), "handle_errors"},
		"CVE-2023-33189 another route":       {behind("\treverse_proxy $DUMP\n") + "http://app.test:$HTTP_PORT {\n\treverse_proxy $DUMP\n}\n", "app.test"},
		"174 templates over our own pages":   {strings.Replace(behind("\ttemplates\n\treverse_proxy $DUMP"), "admin off", "admin off\n\torder templates before anteroom", 1), "before"},
		"P22 rewrite":                        {behind("\trewrite * /public/x\n\treverse_proxy $DUMP"), "host of its own"},
		"CVE-2026-52845 php_fastcgi by hand": {behind("\treverse_proxy $DUMP {\n\t\ttransport fastcgi {\n\t\t\tsplit .php\n\t\t}\n\t}"), "fastcgi"},
	} {
		t.Run(id, func(t *testing.T) {
			res := r.validate(t, "validate", test.caddyfile)
			if message := lastLine(res.stderr); res.code == 0 || !strings.Contains(message, test.want) {
				t.Errorf("validate ends with %d and %s", res.code, message)
			}
		})
	}
}

// CVE-2026-92700: a file that is hidden by its name is hidden in every spelling of it.
func TestHiddenFiles(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{".git/config", ".GIT/config", ".env", "page.html"} {
		write(t, filepath.Join(dir, name), "content of "+strings.ToLower(name))
	}
	r := newRig(t, strings.Replace(strings.Replace(standard, "allow public /\n", "allow public /**\n\t\tdeny public /.git/** /.env\n", 1), "\treverse_proxy $DUMP\n}\n\nwide", "\troot * "+dir+"\n\tfile_server {\n\t\thide .git .env\n\t}\n}\n\nwide", 1))
	for _, target := range []string{"/.git/config", "/.GIT/config", "/.Git/config", "/%2egit/config", "/.%47IT/config", "/.env", "/.ENV", "/.env/", "/.git%2fconfig", "/x/../.git/config", "/.env.", "/.env%20", "/.env::$DATA", "/.env;x", `/.git\config`, "/.gi%74/config"} {
		t.Run("CVE-2026-92700 "+target, func(t *testing.T) {
			if e := send(t, r.addr(), appHost, r.ask(target, nil), 1); e.status() == 200 || strings.Contains(e.Raw, "content of") {
				t.Errorf("answered %s", e.Raw)
			}
		})
	}
	if e := send(t, r.addr(), appHost, r.ask("/page.html", nil), 1); e.status() != 200 {
		t.Errorf("a page is answered %d", e.status())
	}
}

// Part 6-A.4 (T:redir): nobody chooses where we send a person.
func TestRedirectAdvisories(t *testing.T) {
	r := newRig(t, standard)
	r.op.ready(t)
	b := newBrowser(t)
	b.signIn(t, r.url(appHost, "/.anteroom/login?return_to=/"), "dana", "dana-pw")
	own := r.authority(appHost)
	for id, texts := range map[string][]string{
		"CVE-2021-21291 GHSA-qqxw GHSA-j7px CVE-2020-4037": {"https://evil" + own + "/", "https://" + own + ".evil.example/", "//evil.example/." + own, "/\\evil.example", "\\/evil.example", "/\t/evil.example", "/%0a/evil.example", "/ /evil.example", "/%09//evil.example", "https:/evil.example", "/\n/evil.example"},
		"CVE-2021-32786 CVE-2019-20479":                    {"https:\\\\evil.example", "/\\\\evil.example", "\\evil.example", "https://evil.example\\@" + own + "/", "//evil.example", "///evil.example", "/..//evil.example"},
		"CVE-2021-39191 CVE-2022-23527":                    {"https://evil.example/", "/\tevil.example", "/\t\\evil.example", "//evil.example%2f" + own, "https://" + own + "@evil.example/", "https:evil.example"},
		"CVE-2024-21497":                                   {"https://evil.example", "http://evil.example/?x=" + own, "javascript:alert(1)", "data:text/html,x", "https://" + own + ":1/"},
		"CVE-2022-28923":                                   {"//evil.example/%2e%2e", "//evil.example/..", "/%2e%2e//evil.example", "//evil.example/%2f.."},
		"no-id-2":                                          {"https://evil.example?" + own, "https://evil.example#" + own, "https://[::1]/", "//" + own, "https://" + own + "%00.evil.example/", "%68ttps://evil.example"},
	} {
		for _, text := range texts {
			t.Run(fmt.Sprintf("%s %q", id, text), func(t *testing.T) {
				for _, page := range []string{"login?return_to=", "login/hospital?return_to="} {
					if p := r.signInReturning(t, b, page+escape(text)); p.Header.Get("Location") != "/" {
						t.Errorf("%s ends at %q", page, p.Header.Get("Location"))
					}
				}
				// Under the names of other products it says nothing, and none reflects it.
				query := ""
				for _, name := range []string{"rd", "redirect", "redirect_url", "redirect_uri", "target_link_uri", "url", "next", "state", "pomerium_redirect_uri", "post_logout_redirect_uri"} {
					query += "&" + name + "=" + escape(text)
				}
				if p := r.signInReturning(t, b, "login?x=y"+query); p.Header.Get("Location") != "/" {
					t.Errorf("by another name it ends at %q", p.Header.Get("Location"))
				}
			})
		}
	}
	dana := r.person(t, appHost, "dana")
	for _, query := range []string{"return_to", "rd", "url", "redirect", "post_logout_redirect_uri", "target"} {
		t.Run("CVE-2021-29456 "+query, func(t *testing.T) {
			s := r.person(t, appHost, "dana")
			payload := request("POST", "/.anteroom/logout?"+query+"=https://evil.example/", own, query+"="+url.QueryEscape("https://evil.example/"), s.line(), "Origin: https://"+own, "Sec-Fetch-Site: same-origin", "Content-Type: application/x-www-form-urlencoded",
				fmt.Sprintf("Content-Length: %d", len(query)+1+len(url.QueryEscape("https://evil.example/"))), "Accept: text/html", "Connection: close")
			if e := send(t, r.addr(), appHost, payload, 1); e.status() == 0 || e.status() >= 500 || strings.Contains(e.Raw, "evil.example") {
				t.Errorf("sign-out answers\n%s", e.Raw)
			}
		})
	}
	t.Run("CVE-2021-29651 CVE-2021-29652", func(t *testing.T) {
		fresh := newBrowser(t)
		fresh.signIn(t, r.url(appHost, "/.anteroom/login?return_to=/members/x"), "pat", "pat-pw")
		_, cookies := fresh.cookies(t, r.url(appHost, "/"))
		if trace := strings.Join(fresh.trace, "\n"); trace == "" || strings.Contains(trace, cookies[cookieToken]) || strings.Contains(trace, "eyJ") {
			t.Errorf("an address on the way has a token in it:\n%s", trace)
		}
		for _, target := range []string{"/.pomerium/api/v1/login?pomerium_redirect_uri=https://evil.example", "/.anteroom/login/https://evil.example", "/.anteroom/callback/hospital?code=x&state=y&redirect_uri=https://evil.example", "/oauth2/start?rd=https://evil.example", "/.anteroom/api/v1/login?redirect_uri=https://evil.example"} {
			e, _ := r.attack(t, row{payload: r.ask(target, dana, "Accept: text/html"), who: dana, want: []int{400, 403, 404}})
			if strings.Contains(e.Raw, "Location:") || strings.Contains(e.Raw, "https://evil.example") {
				t.Errorf("%s is answered\n%s", target, e.Raw)
			}
		}
	})
	for _, target := range []string{"//evil.example/%2e%2e", "//evil.example/..", "/.anteroom//evil.example", "//evil.example", "/%2fevil.example/", "/.anteroom/..//evil.example"} {
		t.Run("CVE-2022-28923 "+target, func(t *testing.T) {
			e := r.refusedAt(t, appHost, r.ask(target, nil, "Accept: text/html", "Sec-Fetch-Mode: navigate"), nil, 400, 404)
			if strings.Contains(e.Raw, "Location:") {
				t.Errorf("answered %s", e.Raw)
			}
		})
	}
}
