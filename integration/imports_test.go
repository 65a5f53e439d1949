package integration

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/anteroom-proxy/anteroom"

// mayImport is the table of DESIGN.md: a package may import these of ours and no others. A subpackage follows its parent's row
// and may import its parent; the ways to sign in
// may use hardening besides.
var mayImport = map[string][]string{
	"cmd/anteroom":      {"caddymodule"},
	"cmd/anteroom-demo": {"caddymodule", "upstreams"},
	"caddymodule":       {"gate", "portal", "identity", "session", "jws", "policy", "hardening", "envelope", "loopback", "store", "audit", "alarm", "emergency", "budget", "rekey"},
	"gate":              {"session", "policy", "audit", "alarm", "emergency", "budget"},
	"portal":            {"identity", "session", "policy", "audit", "store", "emergency"},
	"identity":          {"store", "jws"},
	"session":           {"store", "jws"},
	"jws":               nil,
	"policy":            nil,
	"loopback":          nil,
	"hardening":         {"store", "audit", "loopback"},
	"envelope":          {"store", "audit", "loopback"},
	"store":             nil,
	"audit":             nil,
	"alarm":             nil,
	"emergency":         {"store", "audit", "alarm"},
	"budget":            {"store"},
	"rekey":             {"store", "audit"},
	"upstreams":         nil,
	"docs":              nil, // recipes: programs of others
	"integration":       {"*"},
}

// heavy are libraries that one part of the tree keeps away from the rest.
var heavy = map[string][]string{
	"github.com/caddyserver/": {"caddymodule", "cmd", "integration"},
	"go.uber.org/zap":         {"caddymodule", "cmd", "integration"},
	"github.com/redis/":       {"store/redis"},
	"cel.dev/":                {"policy/condition"},
	"github.com/aws/":         {"envelope/awskms"},
}

// listed is what the test reads of `go list -json`.
type listed struct {
	ImportPath                         string
	Imports, TestImports, XTestImports []string
	Deps                               []string
}

func goList(t *testing.T, args ...string) []listed {
	t.Helper()
	cmd := exec.Command("go", append([]string{"list", "-e", "-json=ImportPath,Imports,TestImports,XTestImports,Deps"}, args...)...)
	cmd.Dir = root
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list %v: %v\n%s", args, err, stderr.String())
	}
	var all []listed
	decoder := json.NewDecoder(bytes.NewReader(out))
	for decoder.More() {
		var p listed
		if err := decoder.Decode(&p); err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
	return all
}

// ours returns the path below the module, and whether it is of the module.
func ours(path string) (string, bool) {
	return strings.CutPrefix(path, module+"/")
}

// rowOf is the longest row of the table that a package falls under.
func rowOf(pkg string) (string, bool) {
	for dir := pkg; dir != "."; dir = filepath.Dir(dir) {
		if _, ok := mayImport[dir]; ok {
			return dir, true
		}
	}
	return "", false
}

func allowed(from, to string) bool {
	fromRow, _ := rowOf(from)
	toRow, known := rowOf(to)
	if !known {
		return false
	}
	list := mayImport[fromRow]
	if strings.HasPrefix(from, "identity/") && toRow == "hardening" {
		return true
	}
	return fromRow == toRow || slices.Contains(list, "*") || slices.Contains(list, toRow)
}

// TestImports keeps the walls of the house: who may import whom.
func TestImports(t *testing.T) {
	packages := goList(t, "./...")
	seen := 0
	for _, p := range packages {
		pkg, ok := ours(p.ImportPath)
		if !ok {
			continue
		}
		seen++
		if _, known := rowOf(pkg); !known {
			t.Errorf("%s is not in the table of packages; add it to DESIGN.md and here, or put the code where it belongs", pkg)
			continue
		}
		for _, imported := range p.Imports {
			checkImport(t, pkg, imported, false)
		}
		for _, imported := range append(p.TestImports, p.XTestImports...) {
			checkImport(t, pkg, imported, true)
		}
	}
	if seen < 10 {
		t.Fatalf("go list showed %d packages of ours: the check saw nothing", seen)
	}
}

func checkImport(t *testing.T, pkg, imported string, test bool) {
	t.Helper()
	for library, where := range heavy {
		within := func(dir string) bool { return pkg == dir || strings.HasPrefix(pkg, dir+"/") }
		if strings.HasPrefix(imported, library) && !slices.ContainsFunc(where, within) {
			t.Errorf("%s imports %s, which only %v may", pkg, imported, where)
		}
	}
	to, ok := ours(imported)
	if !ok {
		return
	}
	base := filepath.Base(to)
	if test {
		// Tests stand outside the table, but the doubles are for tests only and Caddy stays where it is.
		return
	}
	if (base == "idptest" || base == "storetest" || base == "redistest" || base == "kmstest" || base == "mastertest") && pkg != "integration/bench" { // it measures against real parts
		t.Errorf("%s imports %s outside its tests", pkg, to)
	}
	if !allowed(pkg, to) {
		row, _ := rowOf(pkg)
		t.Errorf("%s imports %s; %s may import %v", pkg, to, row, mayImport[row])
	}
}

// TestImportsOfTheProduct: the binary that stands before patients' data has no sample application and no provider in it.
func TestImportsOfTheProduct(t *testing.T) {
	product := goList(t, "./cmd/anteroom")
	if len(product) != 1 || len(product[0].Deps) < 100 {
		t.Fatalf("go list ./cmd/anteroom: %d packages", len(product))
	}
	for _, dep := range product[0].Deps {
		if to, ok := ours(dep); ok && (strings.HasPrefix(to, "upstreams") || strings.HasPrefix(to, "integration") ||
			strings.HasSuffix(to, "test")) {
			t.Errorf("bin/anteroom contains %s", to)
		}
	}
}

// TestImportsBite: the table refuses what it must.
func TestImportsBite(t *testing.T) {
	for _, pair := range [][2]string{{"session", "identity"}, {"policy", "session"}, {"gate", "identity"}, {"identity", "session"},
		{"caddymodule", "upstreams"}, {"cmd/anteroom", "upstreams/idp"}, {"store/bolt", "audit"}, {"session", "hardening"}} {
		if allowed(pair[0], pair[1]) {
			t.Errorf("%s may import %s", pair[0], pair[1])
		}
	}
	for _, pair := range [][2]string{{"identity/oidc", "identity"}, {"identity/oidc", "hardening"}, {"store/bolt", "store"}, {"gate", "session"}} {
		if !allowed(pair[0], pair[1]) {
			t.Errorf("%s may not import %s", pair[0], pair[1])
		}
	}
}

// builder is the JSON shape of xcaddy's Builder, as far as a build of ours needs it. Unknown members are refused.
type builder struct {
	CaddyVersion string `json:"caddy_version"`
	Plugins      []struct {
		ModulePath string `json:"module_path"`
		Version    string `json:"version"`
	} `json:"plugins"`
	Replacements []struct {
		Old string `json:"old"`
		New string `json:"new"`
	} `json:"replacements"`
	BuildFlags string `json:"build_flags"`
}

// TestXcaddyJSON: xcaddy.json, the imports of cmd/anteroom and go.mod say the same.
func TestXcaddyJSON(t *testing.T) {
	b, err := os.ReadFile(filepath.Join(root, "xcaddy.json"))
	if err != nil {
		t.Fatal(err)
	}
	var wanted builder
	decoder := json.NewDecoder(bytes.NewReader(b))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&wanted); err != nil {
		t.Fatalf("xcaddy.json has not the shape of xcaddy's Builder: %v", err)
	}

	required := requirements(t)
	if got := required["github.com/caddyserver/caddy/v2"]; got != wanted.CaddyVersion || got == "" {
		t.Errorf("xcaddy.json names Caddy %s, go.mod requires %s", wanted.CaddyVersion, got)
	}

	const caddy = "github.com/caddyserver/caddy/v2/"
	imports := map[string]bool{}
	for _, p := range goList(t, "./cmd/anteroom") {
		for _, imported := range p.Imports {
			first, _, _ := strings.Cut(imported, "/")
			if strings.Contains(first, ".") && imported != caddy+"cmd" && imported != caddy+"modules/standard" {
				imports[imported] = true
			}
		}
	}
	if len(wanted.Plugins) == 0 {
		t.Error("xcaddy.json lists no plugin")
	}
	for _, plugin := range wanted.Plugins {
		if !imports[plugin.ModulePath] {
			t.Errorf("xcaddy.json lists %s, cmd/anteroom does not import it", plugin.ModulePath)
		}
		delete(imports, plugin.ModulePath)
		if _, own := ours(plugin.ModulePath); own {
			continue // built from this tree, whatever its version
		}
		found := false
		for path, version := range required {
			if plugin.ModulePath == path || strings.HasPrefix(plugin.ModulePath, path+"/") {
				found = true
				if version != plugin.Version {
					t.Errorf("xcaddy.json has %s %s, go.mod %s", plugin.ModulePath, plugin.Version, version)
				}
			}
		}
		if !found {
			t.Errorf("xcaddy.json lists %s, go.mod does not require it", plugin.ModulePath)
		}
	}
	for left := range imports {
		t.Errorf("cmd/anteroom imports %s, xcaddy.json does not list it", left)
	}
}

// requirements are the direct and indirect requirements of go.mod.
func requirements(t *testing.T) map[string]string {
	t.Helper()
	cmd := exec.Command("go", "mod", "edit", "-json")
	cmd.Dir = root
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	var mod struct {
		Require []struct{ Path, Version string }
	}
	if err := json.Unmarshal(out, &mod); err != nil {
		t.Fatal(err)
	}
	all := map[string]string{}
	for _, r := range mod.Require {
		all[r.Path] = r.Version
	}
	if len(all) == 0 {
		t.Fatal("go.mod requires nothing: the check saw nothing")
	}
	return all
}
