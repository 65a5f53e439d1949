package integration

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// appServer is an application of one kind: Go's net/http, WSGI, PHP behind FastCGI, a servlet container. Each routes by its own
// rules and notes for every request where it went and how it reads the path.
type appServer struct {
	addr string
	file string // what it notes; "" for the one that is in this process

	mu    sync.Mutex // guards what follows
	notes []string   // of the one in this process
	read  int        // bytes of file that were read
}

// hit is one request that reached an application.
type hit struct {
	id      int    // that the request carries in X-Attack
	person  string // Remote-User
	handler string // where the application's own router sent it
	target  string // as it came
	reads   []string
}

// appServers starts each kind.
var appServers = map[string]func(testing.TB) *appServer{"Go": startGoApp, "WSGI": startWSGI, "PHP": startPHP, "Tomcat": startTomcat}

// hits returns what was noted since the last call.
func (a *appServer) hits(t testing.TB) []hit {
	t.Helper()
	a.mu.Lock()
	defer a.mu.Unlock()
	lines := a.notes
	a.notes = nil
	if a.file != "" {
		b, err := os.ReadFile(a.file)
		if err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
		lines = strings.Split(strings.TrimSuffix(string(b[a.read:]), "\n"), "\n")
		a.read = len(b)
	}
	var all []hit
	for _, line := range lines {
		if line == "" {
			continue
		}
		fields := strings.Split(line, " ")
		for i, field := range fields {
			if field == "-" {
				field = ""
			}
			text, err := url.PathUnescape(field)
			if err != nil {
				t.Fatalf("%s: the note %q: %v", a.file, line, err)
			}
			fields[i] = text
		}
		if len(fields) < 5 {
			t.Fatalf("%s: the note %q is too short", a.file, line)
		}
		id, _ := strconv.Atoi(fields[0]) // none: nobody asked for it
		all = append(all, hit{id, fields[1], fields[2], fields[3], fields[4:]})
	}
	return all
}

// wait waits until the application answers.
func (a *appServer) wait(t testing.TB, p *process) *appServer {
	t.Helper()
	p.waitFor(t, 3*patience, func() error {
		res, err := http.Get("http://" + a.addr + "/public/")
		if err != nil {
			return err
		}
		defer res.Body.Close()
		if res.StatusCode != http.StatusOK {
			body, _ := io.ReadAll(io.LimitReader(res.Body, 2<<10))
			return fmt.Errorf("answered %d: %s", res.StatusCode, body)
		}
		return nil
	})
	assertLoopback(t, p)
	a.hits(t)
	return a
}

// startGoApp serves with net/http and its ServeMux. It also notes how more careless programs in Go would read the path.
func startGoApp(t testing.TB) *appServer {
	t.Helper()
	a := new(appServer)
	mux := http.NewServeMux()
	for pattern, handler := range map[string]string{"/": "root", "/admin/": "admin", "/public/": "public", "/public/secret/": "secret", "/public/secret": "secret",
		"/members/": "members", "/patients/{who}/": "patients"} {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			note := append([]string{r.Header.Get("X-Attack"), r.Header.Get("Remote-User"), handler, r.RequestURI}, goReadings(r)...)
			for i, field := range note {
				if note[i] = strings.ReplaceAll(url.PathEscape(field), "%2F", "/"); field == "" {
					note[i] = "-"
				}
			}
			a.mu.Lock()
			a.notes = append(a.notes, strings.Join(note, " "))
			a.mu.Unlock()
			w.Header().Set("Content-Type", "text/plain; charset=utf-8")
			for name, values := range r.Header {
				fmt.Fprintf(w, "HTTP_%s: %s\n", strings.ReplaceAll(strings.ToUpper(name), "-", "_"), strings.Join(values, ","))
			}
		})
	}
	listener, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", freePort(t)))
	if err != nil {
		t.Fatal(err)
	}
	a.addr = listener.Addr().String()
	server := &http.Server{Handler: mux, ErrorLog: nil}
	go server.Serve(listener) // ends with Close
	t.Cleanup(func() { server.Close() })
	return a
}

// goReadings: decoded once, cleaned, decoded twice, and as Windows reads it.
func goReadings(r *http.Request) []string {
	windows := strings.Split(strings.ReplaceAll(r.URL.Path, `\`, "/"), "/")
	for i, segment := range windows {
		windows[i] = strings.TrimRight(segment, ". ")
	}
	reads := []string{r.URL.Path, path.Clean(r.URL.Path), strings.Join(windows, "/")}
	if twice, err := url.PathUnescape(r.URL.Path); err == nil {
		reads = append(reads, twice)
	}
	return reads
}

// appSource is a file of integration/apps.
func appSource(name string) string { return filepath.Join(root, "integration", "apps", name) }

// startWSGI serves apps/echo.py with gunicorn.
func startWSGI(t testing.TB) *appServer {
	t.Helper()
	dir := t.TempDir()
	a := &appServer{addr: fmt.Sprintf("127.0.0.1:%d", freePort(t)), file: filepath.Join(dir, "hits")}
	p := start(t, "gunicorn", []string{"HITS=" + a.file, "HOME=" + dir, "PYTHONDONTWRITEBYTECODE=1"}, "/usr/bin/gunicorn",
		"--bind", a.addr, "--worker-class", "gthread", "--threads", "4", "--keep-alive", "30", "--worker-tmp-dir", dir, "--chdir", appSource(""), "echo:app")
	return a.wait(t, p)
}

// startPHP serves apps/echo.php with php-cgi, behind a web server that knows nothing of us: our own binary without a gate.
func startPHP(t testing.TB) *appServer {
	t.Helper()
	dir := t.TempDir()
	a := &appServer{addr: fmt.Sprintf("127.0.0.1:%d", freePort(t)), file: filepath.Join(dir, "hits")}
	for _, script := range []string{"index.php", "admin/index.php", "public/index.php", "public/secret/index.php", "members/index.php", "patients/index.php"} {
		write(t, filepath.Join(dir, "www", script), fmt.Sprintf("<?php require %q;\n", appSource("echo.php")))
	}
	fastcgi := fmt.Sprintf("127.0.0.1:%d", freePort(t))
	backend := start(t, "php-cgi", []string{"HITS=" + a.file, "PHP_FCGI_CHILDREN=2", "PHP_FCGI_MAX_REQUESTS=0"}, "php-cgi", "-n", "-b", fastcgi)
	write(t, filepath.Join(dir, "Caddyfile"), "{\n\tadmin off\n\tpersist_config off\n\tauto_https off\n\tskip_install_trust\n}\n"+
		"http://:"+strings.Split(a.addr, ":")[1]+" {\n\tbind 127.0.0.1\n\troot * "+filepath.Join(dir, "www")+"\n\tphp_fastcgi "+fastcgi+"\n}\n")
	front := start(t, "php-front", []string{"HOME=" + dir, "XDG_DATA_HOME=" + dir, "XDG_CONFIG_HOME=" + dir},
		binary(t, "anteroom"), "run", "--config", filepath.Join(dir, "Caddyfile"), "--adapter", "caddyfile")
	a.wait(t, front)
	assertLoopback(t, backend)
	return a
}

// startTomcat serves apps/tomcat with Debian's Tomcat, from a folder of the test.
func startTomcat(t testing.TB) *appServer {
	t.Helper()
	base := t.TempDir()
	port := freePort(t)
	a := &appServer{addr: fmt.Sprintf("127.0.0.1:%d", port), file: filepath.Join(base, "hits")}
	for from, to := range map[string]string{"server.xml": "conf/server.xml", "web.xml": "webapps/ROOT/WEB-INF/web.xml", "echo.jsp": "webapps/ROOT/WEB-INF/echo.jsp"} {
		b, err := os.ReadFile(appSource("tomcat/" + from))
		if err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(base, to), string(b))
	}
	write(t, filepath.Join(base, "conf/web.xml"), `<web-app xmlns="https://jakarta.ee/xml/ns/jakartaee" version="6.0"/>`)
	write(t, filepath.Join(base, "conf/catalina.properties"), "common.loader=${catalina.home}/lib/*.jar,/usr/share/java/eclipse-jdt-core.jar,/usr/share/java/ecj.jar\n")
	for _, dir := range []string{"logs", "temp", "work"} {
		if err := os.MkdirAll(filepath.Join(base, dir), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	p := start(t, "tomcat", []string{"HITS=" + a.file, "HOME=" + base, "CATALINA_BASE=" + base, "CATALINA_HOME=/usr/share/tomcat10",
		"CATALINA_OPTS=-Xmx256m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -Djava.net.preferIPv4Stack=true -Decho.port=" + strconv.Itoa(port)},
		"/usr/share/tomcat10/bin/catalina.sh", "run")
	a.wait(t, p)
	for _, path := range []string{"/", "/admin/", "/public/secret/", "/members/", "/patients/"} { // each is compiled once
		res, err := http.Get("http://" + a.addr + path)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if res.StatusCode != http.StatusOK {
			t.Fatalf("tomcat answers %s with %d\n%s", path, res.StatusCode, p.tail())
		}
	}
	a.hits(t)
	return a
}
