package Fastsum;
our $VERSION = '1.0';
require XSLoader;
XSLoader::load('Fastsum', $VERSION);
1;
__END__

=head1 NAME

Fastsum - adds up
