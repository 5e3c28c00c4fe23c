// Command webserver stands in for nginx in upstream's image of that name: it
// serves /usr/share/nginx/html on port 80. Specs look for the page and put it
// aside; none looks at anything else of nginx.
package main

import (
	"log"
	"net/http"
)

func main() {
	log.Fatal(http.ListenAndServe(":80", http.FileServer(http.Dir("/usr/share/nginx/html"))))
}
