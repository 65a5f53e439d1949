package integration

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// recipeLines are what every recipe of docs/hardening prints about its table of three people.
const recipeLines = `wrapped: 3
wrong password: no
right password: yes
fresh record: yes
bob with alice's record: no
bob with alice's wrapped hash: no
nobody: no
`

const wordPressLines = `wordpress wrapped: 2
wordpress 7 wrong: no
wordpress 7 right: yes
wordpress 7 fresh: yes
wordpress 8 wrong: no
wordpress 8 right: yes
wordpress 8 fresh: yes
wordpress changed: yes
`

// TestRecipes runs the client recipes as they stand in the documentation against the real service: a table of bcrypt hashes is
// protected without anybody's password, people sign in and get records of their own, and a record in another row is worth
// nothing.
func TestRecipes(t *testing.T) {
	t.Parallel()
	r := newHMAC(t, hmacConfig)
	roots := filepath.Join(r.dir, "ca.pem")
	write(t, roots, string(ca().pem))
	env := []string{"HMAC_URL=" + r.hmacURL("/hmac-service"), "HMAC_CA=" + roots, "HMAC_TOKEN_FILE=" + filepath.Join(r.dir, "hmac.token")}
	docs := filepath.Join(root, "docs", "hardening")
	tests := []struct {
		name, want string
		run        func(t *testing.T) result
	}{
		{"Go", recipeLines, func(t *testing.T) result {
			return output(t, append(os.Environ(), env...), "go", "run", "-C", root, "./docs/hardening/go")
		}},
		{"Django", recipeLines, func(t *testing.T) result {
			return output(t, append([]string{"PYTHONDONTWRITEBYTECODE=1"}, env...), "/usr/bin/python3", filepath.Join(docs, "django", "example.py"))
		}},
		{"PHP and WordPress", recipeLines + wordPressLines, func(t *testing.T) result {
			return output(t, env, "php", filepath.Join(docs, "php", "example.php"))
		}},
		{"PHP without the curl extension", recipeLines + wordPressLines, func(t *testing.T) result {
			return output(t, env, "php", "-n", "-d", "disable_functions=curl_init", filepath.Join(docs, "php", "example.php"))
		}},
		{"Spring", recipeLines, func(t *testing.T) result {
			jars, classes := filepath.Join(part(t, "spring"), "lib", "*"), t.TempDir()
			sources, err := filepath.Glob(filepath.Join(docs, "spring", "*.java"))
			if err != nil || len(sources) != 3 {
				t.Fatalf("sources: %v, %v", sources, err)
			}
			if made := output(t, nil, append([]string{"javac", "-Xlint:all", "-Werror", "-d", classes, "-cp", jars}, sources...)...); made.code != 0 {
				t.Fatalf("javac: %+v", made)
			}
			return output(t, env, "java", "-cp", classes+":"+jars, "Example")
		}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			got := test.run(t)
			if got.code != 0 || got.stdout != test.want {
				t.Errorf("exit %d\n--- printed\n%s--- want\n%s--- errors\n%s", got.code, got.stdout, test.want, strings.TrimSpace(got.stderr))
			}
		})
	}
}
