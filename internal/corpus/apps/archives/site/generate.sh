for i in 1 2 3; do echo "<p>page $i" > page$i.html; done
cat page*.html > page.html
