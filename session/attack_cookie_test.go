package session

import (
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"net/http"
	"reflect"
	"strings"
	"testing"
	"time"
)

// Rows of the cookie table and of the two halves.

func TestJ71TwoHalves(t *testing.T) {
	l := newLab(t)
	_, others := issue(t, l.m)
	other := others[1].Value
	raw, err := base64.RawURLEncoding.DecodeString(l.context)
	if err != nil {
		t.Fatal(err)
	}
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	last := strings.IndexByte(alphabet, l.context[42])
	for row, cookieLines := range map[string][]string{
		"no cookies":                 nil,
		"empty line":                 {""},
		"token alone":                {CookieToken + "=" + l.token},
		"context alone":              {CookieContext + "=" + l.context},
		"halves of two sessions":     line(l.token, other),
		"halves the other way":       line(others[0].Value, l.context),
		"context empty":              line(l.token, ""),
		"context without value":      {CookieToken + "=" + l.token + "; " + CookieContext},
		"token empty":                line("", l.context),
		"both empty":                 line("", ""),
		"two contexts":               {line(l.token, l.context)[0] + "; " + CookieContext + "=" + other},
		"two contexts, same":         {line(l.token, l.context)[0] + "; " + CookieContext + "=" + l.context},
		"two tokens":                 {line(l.token, l.context)[0] + "; " + CookieToken + "=" + others[0].Value},
		"hash as context":            line(l.token, base64.RawURLEncoding.EncodeToString(l.session.context[:])),
		"hash in hex":                line(l.token, strings.ToUpper(hex.EncodeToString(l.session.context[:]))),
		"hash of nothing":            line(l.token, hashText("")),
		"context padded":             line(l.token, l.context+"="),
		"context in hex":             line(l.token, hex.EncodeToString(raw)),
		"context one byte less":      line(l.token, base64.RawURLEncoding.EncodeToString(raw[:31])),
		"context one byte more":      line(l.token, base64.RawURLEncoding.EncodeToString(append(raw, 0))),
		"context not canonical":      line(l.token, l.context[:42]+alphabet[last+1:last+2]),
		"context with a line feed":   line(l.token, l.context[:42]+"\n"),
		"context in other alphabet":  line(l.token, "+"+l.context[1:]),
		"context quoted":             line(l.token, `"`+l.context+`"`),
		"context in other case":      line(l.token, swapCase(l.context)),
		"token as context":           line(l.token, l.token),
		"names swapped":              line(l.context, l.token),
		"J76 token in another name":  {"session=" + l.token + "; " + CookieContext + "=" + l.context},
		"J76 as a bearer":            {"Bearer " + l.token + "; " + CookieContext + "=" + l.context},
		"J76 context as the token":   line(l.context, l.context),
		"an opaque value":            line("state-value-of-some-other-protocol", l.context),
		"zero context":               line(l.token, strings.Repeat("A", 43)),
		"token of the other, warmed": line(others[0].Value, l.context),
	} {
		t.Run("J71 "+row, func(t *testing.T) {
			wantFound(t, l.m, line(l.token, l.context))
			wantFound(t, l.m, line(others[0].Value, other))
			wantNone(t, l.m, cookieLines)
		})
	}
}

func swapCase(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case 'a' <= r && r <= 'z':
			return r - 'a' + 'A'
		case 'A' <= r && r <= 'Z':
			return r - 'A' + 'a'
		}
		return r
	}, s)
}

func TestAttackCookies(t *testing.T) {
	l := newLab(t)
	T, C := CookieToken+"="+l.token, CookieContext+"="+l.context
	for row, c := range map[string]struct {
		lines []string
		found bool
	}{
		"K1 attacker's first":               {[]string{CookieToken + "=attacker; " + T + "; " + C}, false},
		"K1 attacker's last":                {[]string{T + "; " + C + "; " + CookieToken + "=attacker"}, false},
		"K2 two lines":                      {[]string{T + "; " + C, CookieToken + "=attacker"}, false},
		"K2 two lines, context":             {[]string{CookieContext + "=" + l.context, T + "; " + C}, false},
		"K2 one half on each line":          {[]string{T, C}, true},
		"K3 __HOST- alone":                  {[]string{"__HOST-anteroom=" + l.token + "; " + C}, false},
		"K3 __host- alone":                  {[]string{"__host-anteroom=" + l.token + "; " + C}, false},
		"K3 __Secure- alone":                {[]string{"__Secure-anteroom=" + l.token + "; " + C}, false},
		"K3 other case beside ours":         {[]string{"__HOST-anteroom=x; " + T + "; __host-anteroom-ctx=x; " + C}, true},
		"K3 longer name beside ours":        {[]string{"__Host-anteroom-attempt=x; " + T + "; " + C}, true},
		"K4 blank before the =":             {[]string{CookieToken + " =" + l.token + "; " + C}, false},
		"K4 tab before the =":               {[]string{CookieToken + "\t=" + l.token + "; " + C}, false},
		"K4 blank before the =, a second":   {[]string{T + "; " + C + "; " + CookieToken + " =x"}, false},
		"K4 blank before the =, context":    {[]string{T + "; " + CookieContext + " =" + l.context}, false},
		"K4 blank behind the =":             {[]string{CookieToken + "= " + l.token + "; " + C}, false},
		"K4 blank behind the value":         {[]string{T + " ; " + C}, false},
		"K4 many blanks before the name":    {[]string{"  \t " + T + ";   " + C}, true},
		"K4 no blank before the name":       {[]string{T + ";" + C}, true},
		"K6 our name inside quotes":         {[]string{`$Version=1; ` + CookieToken + `="` + l.token + `; t=c"; ` + C}, false},
		"K6 quoted":                         {[]string{CookieToken + `="` + l.token + `"; ` + C}, false},
		"K6 quotes of another":              {[]string{`x="; ` + T + `; ` + C + `; y="`}, true},
		"K7 nameless":                       {[]string{"=" + T + "; " + C}, false},
		"K7 nameless context":               {[]string{T + "; =" + C}, false},
		"K8 without =":                      {[]string{CookieToken + "; " + C}, false},
		"K8 empty":                          {[]string{CookieToken + "=; " + C}, false},
		"K8 without = beside a good one":    {[]string{CookieToken + "; " + T + "; " + C}, false},
		"K8 empty beside a good one":        {[]string{CookieToken + "=; " + T + "; " + C}, false},
		"K9 comma":                          {[]string{T + "," + CookieToken + "=B; " + C}, false},
		"K9 comma between the halves":       {[]string{T + ", " + C}, false},
		"K11 200 other cookies":             {[]string{strings.Repeat("aaaaaaaa=bbbbbbbb; ", 200) + T + "; " + C}, true},
		"10 000 cookies of our name":        {[]string{strings.Repeat(CookieToken+"=x; ", 10000)}, false},
		"semicolons only":                   {[]string{strings.Repeat(";", 10000)}, false},
		"odd separators":                    {[]string{";;" + T + ";;;" + C + ";;"}, true},
		"name with NUL":                     {[]string{CookieToken + "\x00=" + l.token + "; " + C}, false},
		"percent-encoded name":              {[]string{"__%48ost-anteroom=" + l.token + "; " + C}, false},
		"percent-encoded value":             {[]string{CookieToken + "=%65" + l.token[1:] + "; " + C}, false},
		"token with a blank in the middle":  {[]string{CookieToken + "=" + l.token[:20] + " " + l.token[20:] + "; " + C}, false},
		"token behind another =":            {[]string{CookieToken + "==" + l.token + "; " + C}, false},
		"newline in the line":               {[]string{T + "\r\n" + C}, false},
		"K1 same token twice":               {[]string{T + "; " + T + "; " + C}, false},
		"K1 three lines, each another half": {[]string{T, C, C}, false},
	} {
		t.Run(row, func(t *testing.T) {
			if c.found {
				wantFound(t, l.m, c.lines)
			} else {
				wantNone(t, l.m, c.lines)
			}
		})
	}
}

func TestStripCookies(t *testing.T) {
	const tok = "__Host-anteroom=tok"
	for row, c := range map[string]struct{ in, want []string }{
		"nothing of ours":               {[]string{"a=1;  b=\"x; y\" ;c"}, []string{"a=1;  b=\"x; y\" ;c"}},
		"only ours":                     {[]string{tok + "; __Host-anteroom-ctx=c"}, nil},
		"first":                         {[]string{tok + "; a=1; b=2"}, []string{"a=1; b=2"}},
		"middle":                        {[]string{"a=1; " + tok + "; b=2"}, []string{"a=1; b=2"}},
		"last":                          {[]string{"a=1; b=2; " + tok}, []string{"a=1; b=2"}},
		"odd bytes stay":                {[]string{" a = 1 ;; " + tok + ";\tb=\"\\\"\"; c=\xff"}, []string{" a = 1 ;;\tb=\"\\\"\"; c=\xff"}},
		"several lines":                 {[]string{"a=1", tok, "b=2; " + tok}, []string{"a=1", "b=2"}},
		"all names of the family":       {[]string{"__Host-anteroom-attempt-1=x; __Host-anteroomX=y; a=1"}, []string{"a=1"}},
		"K3 other case":                 {[]string{"__HOST-ANTEROOM=x; __host-anteroom-ctx=y; a=1"}, []string{"a=1"}},
		"K4 blanks":                     {[]string{"a=1;\t " + "__Host-anteroom = x; b=2"}, []string{"a=1; b=2"}},
		"K6 ours in quotes":             {[]string{`$Version=1; __Host-anteroom="a; t=c"`}, []string{`$Version=1; t=c"`}},
		"K6 sandwich":                   {[]string{`x="; ` + tok + `; y="`}, []string{`x="; y="`}},
		"K6 inside one quoted value":    {[]string{`x="a, ` + tok + `"; y=1`}, []string{"y=1"}},
		"K6 quoted name":                {[]string{`"__Host-anteroom"=x; y=1`}, []string{"y=1"}},
		"K6 comma as separator":         {[]string{"x=a," + tok + "; y=1"}, []string{"y=1"}},
		"K7 nameless":                   {[]string{"=" + tok + "; a=1"}, []string{"a=1"}},
		"K8 without =":                  {[]string{"__Host-anteroom; a=1"}, []string{"a=1"}},
		"a value that mentions it":      {[]string{"a=about __Host-anteroom and more; b=2"}, []string{"a=about __Host-anteroom and more; b=2"}},
		"a name that ends in it":        {[]string{"x__Host-anteroom=1; b=2"}, []string{"x__Host-anteroom=1; b=2"}},
		"a similar name":                {[]string{"__Host-anteroo=1; __Secure-anteroom=2"}, []string{"__Host-anteroo=1; __Secure-anteroom=2"}},
		"only separators left":          {[]string{" ;; " + tok + ";"}, nil},
		"mention and cookie":            {[]string{" a=__Host-anteroom; " + tok + "; b=2"}, []string{" a=__Host-anteroom; b=2"}},
		"no header":                     {nil, nil},
		"blank lines are not ours":      {[]string{"", "a=1"}, []string{"", "a=1"}},
		"assignment inside a value":     {[]string{"x=__Host-anteroom-ctx=secret; y=1"}, []string{"y=1"}},
		"control character before it":   {[]string{"\"=\";\r" + tok + "; y=x"}, []string{`"="; y=x`}},
		"Latin-1 blank before it":       {[]string{"\u00a0" + tok + "; y=x"}, []string{"y=x"}},
		"two in a row at the beginning": {[]string{tok + "; __Host-anteroom-ctx=c;   a=1"}, []string{"a=1"}},
	} {
		t.Run(row, func(t *testing.T) {
			h := http.Header{"Accept": {"x"}}
			if c.in != nil {
				h["Cookie"] = c.in
			}
			before := append([]string{}, c.in...)
			StripCookies(h)
			if !reflect.DeepEqual(h["Cookie"], c.want) {
				t.Errorf("%q, want %q", h["Cookie"], c.want)
			}
			if _, present := h["Cookie"]; present != (c.want != nil) || h.Get("Accept") != "x" {
				t.Errorf("header %v", h)
			}
			if c.in != nil && !reflect.DeepEqual(c.in, before) {
				t.Error("the caller's own slice was changed")
			}
		})
	}
}

func TestK12IsOwnCookie(t *testing.T) {
	for text, own := range map[string]bool{
		"__Host-anteroom=x; Path=/": true, "__host-ANTEROOM-ctx=x": true, " \t__Host-anteroom=x": true, "__Host-anteroom-anything=1": true,
		"__Host-anteroom": true, "=__Host-anteroom=x": true, " = __Host-anteroom=x": true, "__Host-anteroom =x": true,
		"session=x": false, "": false, "a=__Host-anteroom": false, "__Host-other=x": false, "__Host-anteroo=x": false, "__Secure-anteroom=x": false,
	} {
		if IsOwnCookie(text) != own {
			t.Errorf("IsOwnCookie(%q) is not %v", text, own)
		}
	}
}

func TestClearCookies(t *testing.T) {
	var got []string
	for _, c := range ClearCookies() {
		got = append(got, c.String())
	}
	const rest = "=; Path=/; Max-Age=0; HttpOnly; Secure; SameSite=Lax"
	if want := []string{CookieToken + rest, CookieContext + rest}; !reflect.DeepEqual(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestSetCookieForm(t *testing.T) {
	_, cookies := issue(t, newLab(t).m)
	for _, c := range cookies {
		if want := c.Name + "=" + c.Value + "; Path=/; HttpOnly; Secure; SameSite=Lax"; c.String() != want {
			t.Errorf("%s", c)
		}
	}
}

func TestFindDoesNotAllocate(t *testing.T) {
	l := newLab(t)
	cookieLines := []string{"theme=dark; lang=de; " + line(l.token, l.context)[0] + "; csrf=xyz"}
	wantFound(t, l.m, cookieLines)
	if n := testing.AllocsPerRun(100, func() { _, _ = l.m.Find(cookieLines, host) }); n > 0 {
		t.Errorf("a hit allocates %v times", n)
	}
	if n := testing.AllocsPerRun(100, func() { _, _ = l.m.Find([]string{"theme=dark"}, host) }); n > 0 {
		t.Errorf("a request without cookies allocates %v times", n)
	}
}

func TestCacheIsBounded(t *testing.T) {
	l := newLab(t)
	l.m.cache.init(64)
	tokens := make([]string, 500)
	for i := range tokens {
		tokens[i] = l.with(map[string]any{"x": i})
		wantFound(t, l.m, line(tokens[i], l.context))
	}
	if n := l.m.cache.size(); n > 64 || n < 16 {
		t.Errorf("%d entries of at most 64", n)
	}
	for i := range tokens { // forgotten ones are verified again
		wantFound(t, l.m, line(tokens[i], l.context))
	}
	for i := range 500 {
		wantNone(t, l.m, line(tokens[i]+"x", l.context))
		wantNone(t, l.m, line(l.signed(fmt.Sprintf(`{"alg":"EdDSA","kid":"%d"}`, i), l.payload(nil)), l.context))
	}
	if n := l.m.cache.size(); n > 64 {
		t.Errorf("%d entries of at most 64", n)
	}
	pass(l.m, l.clock, time.Hour)
	wantNone(t, l.m, line(tokens[0], l.context))
}
