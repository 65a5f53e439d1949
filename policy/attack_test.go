package policy

import (
	"errors"
	"strings"
	"testing"
)

// TestPathAttacks holds the rows of the request-target table that a path alone decides, with the reason of the refusal.
func TestPathAttacks(t *testing.T) {
	for row, cases := range map[string]map[string]string{
		"P1 two slashes":         {"//admin/x": "empty-segment", "/public//admin": "empty-segment", "///admin": "empty-segment", "/a//": "empty-segment"},
		"P2 dot segments":        {"/./admin": "dot", "/public/./../admin": "dot", "/public/../admin": "dot", "/..": "dot", "/.": "dot", "/a/..": "dot", "/a/.": "dot", "/...": "dot"},
		"P3 encoded dots":        {"/public/%2e%2e/admin": "dot", "/%2E%2e/x": "dot", "/public/.%2e/admin": "dot", "/public/%2e./admin": "dot", "/%2e": "dot", "/x/%2E": "dot"},
		"P4 encoded slash":       {"/public/..%2fadmin": "encoded", "/a%2Fb": "encoded", "/public%2fa": "encoded"},
		"P4 backslash":           {"/public/..%5cadmin": "encoded", `/public/..\admin`: "character", "/a%5Cb": "encoded", "/open/..%5cadmin": "encoded"},
		"P6 path parameters":     {"/public/..;/admin": "character", "/admin;x=1": "character", "/;/admin": "character", "/public;/../admin": "character", "/admin%3bx": "encoded", "/user/..;foo=bar/admin": "character"},
		"P8 trailing characters": {"/admin%00": "control", "/admin%0a": "control", "/admin%09": "control", "/admin%7f": "control", "/admin%20": "blank", "/admin.": "dot", "/admin%2e": "dot", "/admin./x": "dot", "/admin%20/x": "blank", "/%20admin": "blank", "/admin%C2%A0": "blank", "/admin%E2%80%A8": "blank", "/admin%c2%85": "control", "/a%c2%80b": "control", "/..%00/x": "control", "/..%20/x": "blank"},
		"P8 raw control":         {"/a\x00": "control", "/a\n": "control", "/a\r\n": "control", "/a\t": "control", "/\x7f": "control", "/a ": "character"},
		"P9 not UTF-8":           {"/public/%c0%ae%c0%ae/admin": "utf-8", "/%c0%af": "utf-8", "/%e0%80%af": "utf-8", "/%ff": "utf-8", "/%ed%a0%80": "utf-8", "/%f4%90%80%80": "utf-8", "/%C3": "utf-8", "/%u002e": "escape", "/é": "character", "/\xff": "character"},
		"P11 query and fragment": {"/admin#x": "character", "/admin%23x": "encoded", "/admin%3fx": "encoded", "/admin?": "character", "/public?/../admin": "character", "/admin%23/public": "encoded", "/a#/../admin": "character"},
		"P12 bad escapes":        {"/%zz": "escape", "/%": "escape", "/%4": "escape", "/a%2": "escape", "/%%32e": "escape", "/%2g": "escape", "/%g2": "escape"},
		"P13 no slash":           {"": "slash", "admin": "slash", "*": "slash", "http://evil.example/admin": "slash", "app:443": "slash"},
		"double encoding":        {"/public/%252e%252e/admin": "double-encoding", "/public/..%252fadmin": "double-encoding", "/%25252e": "double-encoding", "/%25%32e": "double-encoding", "/100%25": "double-encoding", "/%25zz": "double-encoding", "/%25u002e": "double-encoding", "/%25U002e": "double-encoding", "/a%25aF": "double-encoding"},
		"not in pchar":           {"/<": "character", "/>": "character", `/"`: "character", "/^": "character", "/`": "character", "/{": "character", "/}": "character", "/|": "character"},
		"too long":               {"/" + strings.Repeat("a", MaxPath): "length"},
	} {
		t.Run(row, func(t *testing.T) {
			for path, want := range cases {
				p, err := ParsePath(path)
				var refused *PathError
				if !errors.Is(err, ErrAmbiguousPath) || !errors.As(err, &refused) || refused.Reason != want {
					t.Errorf("%q: %v, want %s", path, err, want)
				} else if p != (Path{}) || strings.Contains(err.Error(), path) && len(path) > 1 {
					t.Errorf("%q: path %q, error %q", path, p, err)
				}
			}
		})
	}
}

func TestPathAccepted(t *testing.T) {
	for path, decoded := range map[string]string{
		"/": "/", "/a": "/a", "/a/": "/a/", "/a/b.css": "/a/b.css", "/a..b": "/a..b", "/.well-known/x": "/.well-known/x", "/..a": "/..a", "/~x": "/~x", "/@me": "/@me", "/a:b": "/a:b",
		"/a%20b": "/a b", "/a+b": "/a+b", "/*": "/*", "/!$&'()*+,=:@": "/!$&'()*+,=:@", "/a[1]": "/a[1]", "/%5B1%5d": "/[1]", "/Zo%C3%AB": "/Zoë", "/%E2%84%AA": "/\u212a", "/%C4%B0": "/\u0130",
		"/%61dmin": "/admin", "/ADMIN": "/ADMIN", "/%7Bx%7D": "/{x}", "/%22": `/"`, "/%7C": "/|",
		"/" + strings.Repeat("a", MaxPath-1): "/" + strings.Repeat("a", MaxPath-1),
	} {
		p := parse(t, path)
		if p.decoded != decoded || p.folded != strings.Map(func(r rune) rune {
			if 'A' <= r && r <= 'Z' {
				return r + 32
			}
			return r
		}, decoded) {
			t.Errorf("%q: decoded %q, folded %q", path, p.decoded, p.folded)
		}
	}
}

func TestUnder(t *testing.T) {
	for path, want := range map[string]bool{
		"/.anteroom/": true, "/.anteroom": true, "/.anteroom/login": true, "/.ANTEROOM/x": true, "/%2eanteroom/login": true, "/.%41nteroom": true,
		"/.anteroomx": false, "/": false, "/x/.anteroom/": false, "/.anteroo": false, "/.anteroom-x/": false,
	} {
		if parse(t, path).Under("/.anteroom/") != want {
			t.Errorf("%q: not %t", path, want)
		}
	}
	if parse(t, "/").Under("") {
		t.Error("under nothing")
	}
}

// TestPolicyAttacks asks the tables' policy what an attacker asks it.
func TestPolicyAttacks(t *testing.T) {
	p := compile(t, "allow public / /public/**", "allow role admin /admin/**", "allow any GET /own/{user}/**")
	admin := &Subject{Username: "root", Roles: []string{"admin"}}
	t.Run("P7 case", func(t *testing.T) {
		check(t, p, []wantCase{{nil, "GET", "/ADMIN", ReasonNoSession}, {alice, "GET", "/Admin/x", ReasonNoRule}, {nil, "GET", "/PUBLIC/x", ReasonNoSession}})
		denies := compile(t, "allow any", "deny any /admin/**")
		check(t, denies, []wantCase{{alice, "GET", "/ADMIN", ReasonDenied}, {alice, "GET", "/Admin/x", ReasonDenied}, {alice, "GET", "/%41DMIN/x", ReasonDenied}})
	})
	t.Run("P17 borders of segments", func(t *testing.T) {
		check(t, p, []wantCase{{nil, "GET", "/publicx", ReasonNoSession}, {nil, "GET", "/public-old/x", ReasonNoSession}, {admin, "GET", "/adminx", ReasonNoRule}, {admin, "GET", "/admin-old", ReasonNoRule}})
	})
	t.Run("P19 endings", func(t *testing.T) {
		for _, path := range []string{"/admin/", "/admin.json", "/admin/x.css", "/admin/public.css"} {
			check(t, p, []wantCase{{nil, "GET", path, ReasonNoSession}, {alice, "GET", path, ReasonNoRule}})
		}
	})
	t.Run("M4 HEAD and OPTIONS", func(t *testing.T) {
		check(t, p, []wantCase{{alice, "HEAD", "/own/alice/x", ReasonAllowed}, {alice, "OPTIONS", "/own/alice/x", ReasonNoRule}, {alice, "HEAD", "/own/bob/x", ReasonNoRule}, {nil, "OPTIONS", "/admin", ReasonNoSession}})
	})
	t.Run("167 deny by default", func(t *testing.T) {
		check(t, p, []wantCase{{alice, "GET", "/anything", ReasonNoRule}, {admin, "GET", "/new", ReasonNoRule}, {nil, "GET", "/favicon.ico", ReasonNoSession}})
	})
	t.Run("168 matrix of roles", func(t *testing.T) {
		systems := map[string][]string{"careconnect": {"patient"}, "fincare": {"finance"}, "medrecords": {"doctor"}, "eps": {"doctor"}, "medicloud": {"doctor", "external"}}
		for system, roles := range systems {
			p := compile(t, "allow role "+strings.Join(roles, ","))
			for _, role := range []string{"patient", "finance", "doctor", "external", "unknown", ""} {
				who, want := &Subject{Username: "x", Roles: []string{role}}, ReasonNoRule
				if strings.Contains(","+strings.Join(roles, ",")+",", ","+role+",") && role != "" {
					want = ReasonAllowed
				}
				for _, method := range []string{"GET", "POST"} {
					if d := p.Decide(Request{Method: method, Path: parse(t, "/api/x"), Who: who}); d.Reason != want {
						t.Errorf("%s %q: %+v", system, role, d)
					}
				}
			}
			check(t, p, []wantCase{{nil, "GET", "/", ReasonNoSession}})
		}
	})
	t.Run("CVE-2025-46821 literal characters", func(t *testing.T) {
		p := compile(t, "allow any", "deny any /f/*/secret")
		for _, segment := range []string{"*", "!", "'", "(", ")", "**", "{user}"} {
			segment = strings.NewReplacer("{", "%7B", "}", "%7D").Replace(segment)
			check(t, p, []wantCase{{alice, "GET", "/f/" + segment + "/secret", ReasonDenied}})
		}
	})
	t.Run("CVE-2026-27590 other letters", func(t *testing.T) {
		p := compile(t, "allow any", "deny any /key")
		check(t, p, []wantCase{{alice, "GET", "/%E2%84%AAey", ReasonAllowed}, {alice, "GET", "/%C4%B0", ReasonAllowed}, {alice, "GET", "/KEY", ReasonDenied}})
	})
}
