package caddymodule

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/logging"
)

// What stands before the gate sees a request as the client wrote it, and a variable keeps what it saw.

var (
	// ownCookie is a placeholder that holds a session's cookies as long as the gate has not taken them out.
	ownCookie = regexp.MustCompile(`(?i)\{http\.request\.(header\.cookie|cookie\.__host-anteroom)`)
	// ownCapture is a matcher that keeps a part of them.
	ownCapture = regexp.MustCompile(`(?i)"(cookie|\{http\.request\.(header\.cookie|cookie\.__host-anteroom)[^"]*)":\{|(header|vars)_regexp\([^)]*cookie`)
	// claimed is a header that tells who signed in. Before the gate it is what the client claims.
	claimed = regexp.MustCompile(`(?i)\{http\.request\.header\.((remote|anteroom)-[a-z-]*)`)
	// claimedMatched is one in a matcher, whose headers stand there by name, too.
	claimedMatched = regexp.MustCompile(`(?i)\b(remote-(user|groups|name|email)|anteroom-(assertion|emergency))\b`)
	// byClient is what a client chooses freely.
	byClient = regexp.MustCompile(`(?i)\{http\.request\.(uri|orig_uri|header\.|cookie\.|body)`)
)

// pries reports what passive steps before the gate do that only the gate may: read the session's cookies (invariant 4: neither half
// reaches the app), believe who the client says it is, or say where a request comes from.
func (w *walk) pries(at string) []error {
	var problems []error
	names := claimedNames(w.early)
	for _, s := range w.early {
		raw, _ := json.Marshal(s.handler)
		text := string(raw)
		if ownCookie.MatchString(text) {
			problems = append(problems, fmt.Errorf("%s: %q (%s) reads the session's cookies before `anteroom` takes them out of the request; name the one cookie that you need, as {cookie.NAME}", at, s.name, s.path))
		}
		if name := claims(text, names); name != "" && readsAtOnce(s) {
			problems = append(problems, fmt.Errorf("%s: %q (%s) reads %s before `anteroom` sets it: it is what the client claims; put the line into a `handle { … }` with the `reverse_proxy`", at, s.name, s.path, name))
		}
		if err := misleads(s, at); err != nil {
			problems = append(problems, err)
		}
	}
	for _, m := range w.asked {
		if ownCapture.MatchString(m.text) {
			problems = append(problems, fmt.Errorf("%s: a matcher before `anteroom` (%s) keeps a part of the session's cookies; name the one cookie that you need, as {cookie.NAME}, or put the matcher and its line into a `handle { … }`", at, m.path))
		}
		name := claims(m.text, names)
		if name == "" {
			name = claimedMatched.FindString(m.text)
		}
		if name != "" {
			problems = append(problems, fmt.Errorf("%s: a matcher before `anteroom` (%s) asks for %s, which is what the client claims there; put the matcher's line into a `handle { … }` with the `reverse_proxy`", at, m.path, name))
		}
	}
	return problems
}

// asking is what a route in front of the gate, or around it, asks for: its matchers as JSON.
type asking struct{ path, text string }

// claims returns the identity that a text takes from the client, or the name of a mapping that does.
func claims(text string, mapped []string) string {
	if found := claimed.FindStringSubmatch(text); found != nil {
		return found[1]
	}
	if i := slices.IndexFunc(mapped, func(name string) bool { return strings.Contains(text, name) }); i >= 0 {
		return mapped[i]
	}
	return ""
}

// claimedNames returns the placeholders that `map` makes of an identity, or of another one of them. It looks only when they are used:
// behind the gate they are right.
func claimedNames(steps []step) (names []string) {
	for _, s := range steps {
		raw, _ := json.Marshal(s.handler)
		if s.name != "map" || claims(string(raw), names) == "" {
			continue
		}
		var m struct {
			Destinations []string `json:"destinations"`
		}
		_ = json.Unmarshal(raw, &m)
		for _, name := range m.Destinations {
			names = append(names, "{"+strings.Trim(name, "{}")+"}")
		}
	}
	return names
}

// readsAtOnce reports whether a step looks at the request before the gate does. `map` and `log_append` wait until they are asked.
func readsAtOnce(s step) bool {
	l, ok := s.handler.(*logging.LogAppend)
	return s.name != "map" && (!ok || l.Early)
}

// misleads refuses a step, wherever it stands, that says where a request comes from, or in which folder a file lies, by what the client
// wrote: both are what policy and the app rely on.
func misleads(s step, at string) error {
	vars, ok := s.handler.(*caddyhttp.VarsMiddleware)
	if !ok {
		if raw, _ := json.Marshal(s.handler); s.name == "file_server" && byClient.Match(raw) {
			return fmt.Errorf("%s: `file_server` (%s) takes its `root` or `index` from what the client wrote, so that it serves other files than those that were judged; write a fixed folder", at, s.path)
		}
		return nil
	}
	for name, value := range *vars {
		text, _ := value.(string)
		switch {
		case name == caddyhttp.ClientIPVarKey || name == caddyhttp.TrustedProxyVarKey || strings.Contains(name, "{"):
			return fmt.Errorf("%s: `vars %s` (%s) would put another client address into the audit log or pass on what the client says of it; use the global option `servers { trusted_proxies … }`", at, name, s.path)
		case name == "root" && byClient.MatchString(text):
			return fmt.Errorf("%s: `root` (%s) takes the folder from what the client wrote (%s), so that other files are served than those that were judged; write a fixed folder", at, s.path, text)
		}
	}
	return nil
}
