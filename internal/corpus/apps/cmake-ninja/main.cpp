#include <iostream>
#include <string>
std::string greeting();
int main() { std::cout << greeting() << ", built " << BUILT << "\n"; }
