package caddymodule

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/rewrite"
)

// harmless are handlers that send a request nowhere. What is not listed counts as proxying.
var harmless = map[string]bool{
	"subroute": true, "static_response": true, "error": true, "file_server": true, "templates": true,
	"rewrite": true, "encode": true, "intercept": true, "copy_response": true, "copy_response_headers": true,
	"invoke": true, "acme_server": true, "metrics": true, "authentication": true,
}

func proxying(name string) bool { return !harmless[name] && !passive[name] && name != "anteroom" }

// surveyErrors checks the error routes of every server, with an eye on those that can see a gated
// site's requests. They run without the gate: when Caddy refuses a request before it (the SNI names
// another host), with the path that was asked for.
func surveyErrors(app *caddyhttp.App, places []place) error {
	var problems []error
	for _, name := range slices.Sorted(maps.Keys(app.Servers)) {
		srv := app.Servers[name]
		if srv.Errors == nil {
			continue
		}
		for i, r := range srv.Errors.Routes {
			hosts, _ := hostsOf(r)
			gated, files, who := false, false, ""
			for _, p := range places {
				if overlap(hosts, p.hosts) {
					gated, files, who = true, files || name == p.server || hosts != nil, p.String()+": "
				}
			}
			for _, err := range judgeErrors(caddyhttp.RouteList{r}, fmt.Sprintf("%s.errors[%d]", name, i), srv.NamedRoutes, gated, files) {
				problems = append(problems, fmt.Errorf("%s%w", who, err))
			}
		}
	}
	return errors.Join(problems...)
}

// judgeErrors reports what error routes must not do: hold a gate, which no other request would meet;
// and in the reach of a gated site proxy a request, or serve the file that it asked for.
func judgeErrors(list caddyhttp.RouteList, path string, named map[string]*caddyhttp.Route, gated, files bool) []error {
	w := errorWalk{named: named, gated: gated, files: files}
	w.routes(list, path, false, "")
	return w.problems
}

type errorWalk struct {
	named    map[string]*caddyhttp.Route
	gated    bool // some gate stands before these errors
	files    bool // file_server counts
	free     bool // some rewrite leads to a path of the client's choice
	problems []error
	depth    int
}

// routes walks a list of routes. fixed tells that a rewrite to a path of the operator's choice has
// run, and the result that one has for certain; matchers is the text of all matchers on the way.
func (w *errorWalk) routes(list caddyhttp.RouteList, path string, fixed bool, matchers string) bool {
	if w.depth++; w.depth > maxDepth {
		return false // the walk through the site's routes says so
	}
	defer func() { w.depth-- }()
	for i, r := range list {
		steps, err := stepsOf(r, fmt.Sprintf("%s.errors[%d]", path, i))
		if err != nil {
			w.problems = append(w.problems, err)
			return false
		}
		inside, text := fixed, matchers+matcherText(r)
		for _, s := range steps {
			inside = w.step(s, inside, text)
		}
		if always := len(r.MatcherSetsRaw) == 0 && len(r.MatcherSets) == 0; always {
			fixed = inside
		} else {
			fixed = fixed && inside
		}
	}
	return fixed
}

func (w *errorWalk) step(s step, fixed bool, matchers string) bool {
	refuse := func(format string, args ...any) { w.problems = append(w.problems, fmt.Errorf(format, args...)) }
	switch h := s.handler.(type) {
	case *Site:
		refuse("%s: `anteroom` stands in `handle_errors`, which other requests never meet (%s); write it at the top level of the site", siteAt(h), s.path)
	case *rewrite.Rewrite:
		fixed = leadsTo(h.URI, matchers)
		w.free = w.free || !fixed
	}
	switch {
	case !w.gated:
	case proxying(s.name):
		refuse("`handle_errors` contains %q (%s): a refused request would reach the app after all; answer errors with `respond` or a file", s.name, s.path)
	case s.name == "file_server" && w.files && (w.free || !fixed):
		refuse("`handle_errors` contains `file_server` (%s) without a fixed path: a refused request would get the file that it asked for; write `rewrite * /{err.status_code}.html` or the like before it", s.path)
	}
	if err := misleads(s, "`handle_errors`"); w.gated && err != nil {
		w.problems = append(w.problems, err)
	}
	plain, errored := s.inner(w.named)
	for _, inner := range plain {
		fixed = w.routes(inner, s.path, fixed, matchers)
	}
	for _, inner := range errored {
		w.routes(inner, s.path, false, matchers)
	}
	return fixed
}

var (
	ofError = regexp.MustCompile(`\{http\.error\.(status_code|status_text|id)\}`)
	ofFile  = regexp.MustCompile(`\{http\.matchers\.file\.(relative|absolute)\}`)
)

// leadsTo reports whether a rewrite leads to a path that the client cannot choose: only the status of
// the error, or a file out of a list in the config, may vary in it.
func leadsTo(uri, matchers string) bool {
	uri = ofError.ReplaceAllString(uri, "/")
	if strings.Contains(matchers, `"try_files"`) && !strings.Contains(matchers, "{http.request.") {
		uri = ofFile.ReplaceAllString(uri, "/")
	}
	return strings.HasPrefix(uri, "/") && !strings.Contains(uri, "{")
}

// matcherText is a route's matchers as JSON, whether they are decoded or not.
func matcherText(r caddyhttp.Route) string {
	raw, err1 := json.Marshal(r.MatcherSetsRaw)
	decoded, err2 := json.Marshal(r.MatcherSets)
	if err1 != nil || err2 != nil {
		return "{http.request." // unreadable: it could be anything
	}
	return string(raw) + string(decoded)
}
