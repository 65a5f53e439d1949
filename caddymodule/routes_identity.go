package caddymodule

import (
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/anteroom-proxy/anteroom/gate"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/headers"
)

// Behind the gate the app believes every header that says who somebody is. The gate's own names are its alone. Those of other
// products (X-WEBAUTH-USER, X-Forwarded-User) an operator may set, from what the gate says or from a constant, and not from what a
// client has a hand in.

var (
	inBraces = regexp.MustCompile(`\{([^{}]*)\}`)
	// ownPart is a part of a request that the client does not choose freely: addresses, and the host, which is one of the site's.
	ownPart = regexp.MustCompile(`(?i)^http\.request\.(remote|local|host|hostport|port|scheme|proto|uuid|duration|duration_ms|tls\.(version|cipher_suite|resumed|proto|server_name))(\.(host|port|labels\.\d+))?$`)
	// namedCapture is a regular expression on one header, with its name.
	namedCapture = regexp.MustCompile(`"([^"]+)":\{"name":"([^"]+)"`)
)

const fromHeader, fromVar, fromCapture = "http.request.header.", "http.vars.", "http.regexp."

// influence knows which placeholders hold something that a client has a hand in.
type influence struct {
	tainted  map[string]bool // variables, and what `map` makes
	matchers string          // the text of all matchers
}

// influence follows the steps of a site, and those that the caller adds, until no further variable holds anything of a client's.
func (w *walk) influence(steps []step) influence {
	by := influence{tainted: map[string]bool{}, matchers: strings.Join(w.askedLate, " ")}
	for _, m := range w.asked {
		by.matchers += " " + m.text
	}
	all := slices.Concat(w.early, steps)
	for before := -1; before < len(by.tainted); {
		before = len(by.tainted)
		for _, s := range all {
			by.follow(s)
		}
	}
	return by
}

// follow notes what one step keeps of a client's words.
func (by influence) follow(s step) {
	if vars, ok := s.handler.(*caddyhttp.VarsMiddleware); ok {
		for name, value := range *vars {
			if text, _ := value.(string); by.found(text) != "" {
				by.tainted[fromVar+name] = true
			}
		}
		return
	}
	raw, _ := json.Marshal(s.handler)
	if s.name != "map" || by.found(string(raw)) == "" {
		return
	}
	var m struct {
		Destinations []string `json:"destinations"`
	}
	_ = json.Unmarshal(raw, &m)
	for _, name := range m.Destinations {
		by.tainted[strings.Trim(name, "{}")] = true
	}
}

// found returns the first placeholder of a text that a client has a hand in; empty: none.
func (by influence) found(text string) string {
	for _, m := range inBraces.FindAllStringSubmatch(text, -1) {
		name := m[1]
		switch {
		case strings.HasPrefix(name, fromHeader):
			if identity, _ := gate.NamesIdentity(name[len(fromHeader):]); identity {
				continue // the gate took what the client wrote
			}
		case strings.HasPrefix(name, fromCapture):
			if by.captured(name[len(fromCapture):]) {
				continue
			}
		case strings.HasPrefix(name, "http.request.") && ownPart.MatchString(name):
			continue
		case !strings.HasPrefix(name, "http.request.") && !strings.HasPrefix(name, "http.matchers.") && !by.tainted[name]:
			continue
		}
		return m[0]
	}
	return ""
}

// captured reports whether a captured text can only be a part of an identity that the gate set.
func (by influence) captured(capture string) bool {
	name, _, _ := strings.Cut(capture, ".")
	uses := strings.Count(by.matchers, `"name":"`+name+`"`)
	for _, m := range namedCapture.FindAllStringSubmatch(by.matchers, -1) {
		if identity, _ := gate.NamesIdentity(m[1]); identity && m[2] == name {
			uses--
		}
	}
	return uses == 0 && strings.Contains(by.matchers, `"name":"`+name+`"`) && !strings.Contains(by.matchers, "regexp(")
}

// setsIdentity refuses header operations that write one of the gate's own headers, or another one that says who somebody is from
// what a client has a hand in. Names are compared as the gate compares them; a name with a placeholder could be any. To delete one
// is harmless.
func setsIdentity(ops *headers.HeaderOps, by influence, path, at string) error {
	written := writes(ops)
	for _, name := range slices.Sorted(maps.Keys(written)) {
		identity, own := gate.NamesIdentity(name)
		if own || name == "*" || strings.Contains(name, "{") {
			return fmt.Errorf("%s: `request_header` or `header_up` sets %s (%s), which tells the app who signed in and is set by `anteroom` alone; use another name, for example `header_up X-WEBAUTH-USER {header.Remote-User}`", at, name, path)
		}
		if from := by.found(written[name]); identity && from != "" {
			return fmt.Errorf("%s: `request_header` or `header_up` sets %s (%s) from %s, in which the client has a hand: people could say that they are somebody else; take it from what `anteroom` says, for example `header_up %s {header.Remote-User}`", at, name, path, from, name)
		}
	}
	return nil
}

// writes returns the names that header operations write, each with all texts that come into its value.
func writes(ops *headers.HeaderOps) map[string]string {
	all := map[string]string{}
	if ops == nil {
		return all
	}
	for name, values := range ops.Add {
		all[name] += strings.Join(values, " ")
	}
	for name, values := range ops.Set {
		all[name] += strings.Join(values, " ")
	}
	for name, list := range ops.Replace {
		for _, r := range list {
			all[name] += r.Search + " " + r.SearchRegexp + " " + r.Replace
		}
	}
	return all
}
